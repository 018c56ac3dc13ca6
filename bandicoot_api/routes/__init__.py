"""The addresses of the service, by what they are about; each is a few lines over what stands beside this package."""
