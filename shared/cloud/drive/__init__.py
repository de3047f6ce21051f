"""Google Drive as a provider: its wire, its errors, its tokens, and names, which it does not keep unique by itself."""
