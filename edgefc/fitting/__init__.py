"""Fits of compressed layers to trained weights, in closed form, in numpy, for torch models and .onnx files alike.

    moments     mean and covariance of a layer's inputs, streamed
    fitted      the base class of the results
    solve       fit(configuration, ...): the fit of any configuration of a plan
    sequential  the matrix to fit when the inputs come from a model that is already compressed

    low_rank    quantized    half    tables          one module per kind, which declares what it serves (registry)
    circulant   kronecker    monarch    prp    eugen    the structured layers of edgefc.layers
    rotation    rounding    gptq    error            what they use
    problem     truncated    descent    scales    free_entries

Symbols: n inputs, m outputs, weight W (m, n), y = W x + bias, C the covariance of x. A fit W' minimises
tr((W - W') C (W - W')^T), the mean square error of the outputs once the bias is corrected for the mean of x. For a
layer without a bias, C is E[x x^T].
"""
