"""Operations that the model is computed with: kernels, random numbers, rows of sessions."""
