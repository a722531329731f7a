"""Networks and losses of the method: tensors in, tensors out."""
