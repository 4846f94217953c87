"""Where clips come from: each dataset is one module, or one package, and converts to our conventions itself."""
