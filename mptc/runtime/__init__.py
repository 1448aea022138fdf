"""What runs generated code: load, train, generate. The only part of the compiler that imports torch."""
