// TEMPORARY
#include "kernels/cuda.h"
namespace convoy::cuda {
__attribute__((weak)) void normalize(Exec&, const NormalizeArgs&) { throw Error("normalize: not on CUDA yet"); }
__attribute__((weak)) void conv_forward(Exec&, const ConvForward&) { throw Error("conv_forward: not on CUDA yet"); }
__attribute__((weak)) void conv_backward_data(Exec&, const ConvBackwardData&) { throw Error("conv_backward_data: not on CUDA yet"); }
__attribute__((weak)) void conv_backward_weights(Exec&, const ConvBackwardWeights&) { throw Error("conv_backward_weights: not on CUDA yet"); }
__attribute__((weak)) void fc_forward(Exec&, const FcForward&) { throw Error("fc_forward: not on CUDA yet"); }
__attribute__((weak)) void fc_backward_data(Exec&, const FcBackwardData&) { throw Error("fc_backward_data: not on CUDA yet"); }
__attribute__((weak)) void fc_backward_weights(Exec&, const FcBackwardWeights&) { throw Error("fc_backward_weights: not on CUDA yet"); }
__attribute__((weak)) void max_pool_forward(Exec&, const MaxPoolForward&) { throw Error("max_pool_forward: not on CUDA yet"); }
__attribute__((weak)) void max_pool_backward(Exec&, const MaxPoolBackward&) { throw Error("max_pool_backward: not on CUDA yet"); }
__attribute__((weak)) void average_pool_forward(Exec&, const AveragePoolForward&) { throw Error("average_pool_forward: not on CUDA yet"); }
__attribute__((weak)) void average_pool_backward(Exec&, const AveragePoolBackward&) { throw Error("average_pool_backward: not on CUDA yet"); }
__attribute__((weak)) void relu_forward(Exec&, const ReluForward&) { throw Error("relu_forward: not on CUDA yet"); }
__attribute__((weak)) void relu_backward(Exec&, const ReluBackward&) { throw Error("relu_backward: not on CUDA yet"); }
__attribute__((weak)) void sigmoid_forward(Exec&, const SigmoidForward&) { throw Error("sigmoid_forward: not on CUDA yet"); }
__attribute__((weak)) void sigmoid_backward(Exec&, const SigmoidBackward&) { throw Error("sigmoid_backward: not on CUDA yet"); }
__attribute__((weak)) void tanh_forward(Exec&, const TanhForward&) { throw Error("tanh_forward: not on CUDA yet"); }
__attribute__((weak)) void tanh_backward(Exec&, const TanhBackward&) { throw Error("tanh_backward: not on CUDA yet"); }
__attribute__((weak)) void dropout_forward(Exec&, const DropoutForward&) { throw Error("dropout_forward: not on CUDA yet"); }
__attribute__((weak)) void dropout_backward(Exec&, const DropoutBackward&) { throw Error("dropout_backward: not on CUDA yet"); }
__attribute__((weak)) void batchnorm_statistics(Exec&, const BatchNormStatistics&) { throw Error("batchnorm_statistics: not on CUDA yet"); }
__attribute__((weak)) void batchnorm_merge(Exec&, const BatchNormMerge&) { throw Error("batchnorm_merge: not on CUDA yet"); }
__attribute__((weak)) void batchnorm_forward(Exec&, const BatchNormForward&) { throw Error("batchnorm_forward: not on CUDA yet"); }
__attribute__((weak)) void batchnorm_backward_sums(Exec&, const BatchNormBackwardSums&) { throw Error("batchnorm_backward_sums: not on CUDA yet"); }
__attribute__((weak)) void batchnorm_backward_data(Exec&, const BatchNormBackwardData&) { throw Error("batchnorm_backward_data: not on CUDA yet"); }
__attribute__((weak)) void batchnorm_running(Exec&, const BatchNormRunning&) { throw Error("batchnorm_running: not on CUDA yet"); }
__attribute__((weak)) void add(Exec&, const AddArgs&) { throw Error("add: not on CUDA yet"); }
__attribute__((weak)) void lrn_forward(Exec&, const LrnForward&) { throw Error("lrn_forward: not on CUDA yet"); }
__attribute__((weak)) void lrn_backward(Exec&, const LrnBackward&) { throw Error("lrn_backward: not on CUDA yet"); }
__attribute__((weak)) void softmax_cross_entropy(Exec&, const SoftmaxCrossEntropy&) { throw Error("softmax_cross_entropy: not on CUDA yet"); }
__attribute__((weak)) void logistic_cross_entropy(Exec&, const LogisticCrossEntropy&) { throw Error("logistic_cross_entropy: not on CUDA yet"); }
__attribute__((weak)) void label_logit(Exec&, const LabelLogit&) { throw Error("label_logit: not on CUDA yet"); }
__attribute__((weak)) void label_rank(Exec&, const LabelRank&) { throw Error("label_rank: not on CUDA yet"); }
__attribute__((weak)) void columns_gather(Exec&, const ColumnsGather&) { throw Error("columns_gather: not on CUDA yet"); }
__attribute__((weak)) void columns_scatter(Exec&, const ColumnsScatter&) { throw Error("columns_scatter: not on CUDA yet"); }
__attribute__((weak)) void columns_slice(Exec&, const ColumnsSlice&) { throw Error("columns_slice: not on CUDA yet"); }
__attribute__((weak)) void columns_embed(Exec&, const ColumnsEmbed&) { throw Error("columns_embed: not on CUDA yet"); }
__attribute__((weak)) void sum_of_squares(Exec&, const SumOfSquares&) { throw Error("sum_of_squares: not on CUDA yet"); }
__attribute__((weak)) void sgd_update(Exec&, const SgdUpdate&) { throw Error("sgd_update: not on CUDA yet"); }
__attribute__((weak)) void adamw_update(Exec&, const AdamwUpdate&) { throw Error("adamw_update: not on CUDA yet"); }
__attribute__((weak)) void count_nonfinite(Exec&, const CountNonfinite&) { throw Error("count_nonfinite: not on CUDA yet"); }
__attribute__((weak)) void scale(Exec&, const ScaleArgs&) { throw Error("scale: not on CUDA yet"); }
__attribute__((weak)) void cast(Exec&, const CastArgs&) { throw Error("cast: not on CUDA yet"); }
__attribute__((weak)) void fill(Exec&, const FillArgs&) { throw Error("fill: not on CUDA yet"); }
#define Q(A) __attribute__((weak)) Support query(const A&) { return {}; }
Q(ConvForward) Q(ConvBackwardData) Q(ConvBackwardWeights) Q(FcForward) Q(FcBackwardData) Q(FcBackwardWeights) Q(BatchNormStatistics) Q(BatchNormBackwardSums) Q(SumOfSquares)
}
