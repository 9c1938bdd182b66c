"""Networks in files: specs as JSON, finished models as safetensors."""
