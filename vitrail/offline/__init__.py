"""The model zoo's offline flow: pictures packed into files, a network run over them alone, its answers scored."""
