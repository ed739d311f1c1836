import torch

torch.set_num_threads(1)  # as in the workers; the matrices are too small for two
