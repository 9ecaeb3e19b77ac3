"""What is drawn for each picture and epoch. What is then done to the pixels lives in `pictures/operations/`.

`grammar`, `policies` and `levels` need no NumPy: a recipe's text is checked by them. `plans`, `crops` and `erase` draw,
`perform` and `augmix` carry out, `pictures` puts all of it together, for one picture and for a batch alike.
"""
