"""The services of the shop, one module each."""
