// What is registered with PyTorch, as one unit: reading PyTorch's headers takes a compiler longer
// than compiling any of these.

#include "attention.cpp"
#include "colours.cpp"
#include "layers.cpp"
#include "resize.cpp"
