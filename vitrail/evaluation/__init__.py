"""What a model is worth on labelled pictures: counts, measures, intervals. Works with torch absent."""
