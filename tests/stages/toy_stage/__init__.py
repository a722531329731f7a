"""A stage that exists in tests only: the number of pixels of each class in each pseudo mask."""
