"""Files that other projects wrote, read strictly: arrays, tensors, archives, and the maps in them."""
