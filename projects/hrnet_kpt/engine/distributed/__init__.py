"""A run in several processes: started here or by torchrun, and each process as one of them."""
