"""A folder that holds a model whole: manifest, weights, engines and their proof."""
