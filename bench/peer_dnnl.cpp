// oneDNN as the peer: channels last, and the layout of its own choice ("any").
#if defined(_OPENMP)
#include <omp.h>
#endif

#include <memory>
#include <oneapi/dnnl/dnnl.hpp>

#include "bench/ops_bench.h"

namespace convoy::bench {
namespace {

using dnnl::memory;

dnnl::engine& engine() {
  static dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

struct Call {
  dnnl::primitive primitive;
  std::unordered_map<int, memory> arguments;
};

PeerRun make_run(const std::string& layout, const dnnl::primitive& primitive,
                 const std::unordered_map<int, memory::desc>& arguments) {
  auto call = std::make_shared<Call>();
  call->primitive = primitive;
  for (const auto& [name, desc] : arguments) {
    memory m(desc, engine());
    float* data = static_cast<float*>(m.get_data_handle());
    for (size_t i = 0; i < desc.get_size() / sizeof(float); ++i) data[i] = static_cast<float>(i % 17) * 0.01f;
    call->arguments.emplace(name, m);
  }
  auto stream = std::make_shared<dnnl::stream>(engine());
  return {layout, [call, stream] {
            call->primitive.execute(*stream, call->arguments);
            stream->wait();
          }};
}

PeerRun conv_run(const ConvShape& s, Pass pass, memory::format_tag tag, const char* layout) {
  constexpr auto f32 = memory::data_type::f32;
  const memory::desc x({s.N, s.C, s.H, s.W}, f32, tag), y({s.N, s.K, s.P(), s.Q()}, f32, tag);
  const memory::desc w({s.K, s.C, s.R, s.S}, f32, memory::format_tag::any),
      bias({s.K}, f32, memory::format_tag::x);
  const memory::dims strides{s.stride_h, s.stride_w}, low{s.pad_h, s.pad_w};
  // The pad behind the last output's taps, which may be less than the one in front.
  const memory::dims high{(s.P() - 1) * s.stride_h + s.R - s.H - s.pad_h,
                          (s.Q() - 1) * s.stride_w + s.S - s.W - s.pad_w};
  const auto direct = dnnl::algorithm::convolution_direct;
  const dnnl::convolution_forward::primitive_desc forward(
      {dnnl::prop_kind::forward_training, direct, x, w, bias, y, strides, low, high}, engine());
  if (pass == kForward)
    return make_run(layout, dnnl::convolution_forward(forward),
                    {{DNNL_ARG_SRC, forward.src_desc()},
                     {DNNL_ARG_WEIGHTS, forward.weights_desc()},
                     {DNNL_ARG_BIAS, bias},
                     {DNNL_ARG_DST, forward.dst_desc()}});
  if (pass == kBackwardData) {
    const dnnl::convolution_backward_data::primitive_desc data({direct, x, w, y, strides, low, high},
                                                               engine(), forward);
    return make_run(layout, dnnl::convolution_backward_data(data),
                    {{DNNL_ARG_DIFF_DST, data.diff_dst_desc()},
                     {DNNL_ARG_WEIGHTS, data.weights_desc()},
                     {DNNL_ARG_DIFF_SRC, data.diff_src_desc()}});
  }
  const dnnl::convolution_backward_weights::primitive_desc weights(
      {direct, x, w, bias, y, strides, low, high}, engine(), forward);
  return make_run(layout, dnnl::convolution_backward_weights(weights),
                  {{DNNL_ARG_SRC, weights.src_desc()},
                   {DNNL_ARG_DIFF_DST, weights.diff_dst_desc()},
                   {DNNL_ARG_DIFF_WEIGHTS, weights.diff_weights_desc()},
                   {DNNL_ARG_DIFF_BIAS, bias}});
}

PeerRun fc_run(const ConvShape& s, Pass pass) {
  constexpr auto f32 = memory::data_type::f32;
  const auto any = memory::format_tag::any;
  const memory::desc x({s.N, s.C}, f32, any), y({s.N, s.K}, f32, any), w({s.K, s.C}, f32, any);
  const memory::desc bias({s.K}, f32, memory::format_tag::x);
  const dnnl::inner_product_forward::primitive_desc forward(
      {dnnl::prop_kind::forward_training, x, w, bias, y}, engine());
  if (pass == kForward)
    return make_run("any", dnnl::inner_product_forward(forward),
                    {{DNNL_ARG_SRC, forward.src_desc()},
                     {DNNL_ARG_WEIGHTS, forward.weights_desc()},
                     {DNNL_ARG_BIAS, bias},
                     {DNNL_ARG_DST, forward.dst_desc()}});
  if (pass == kBackwardData) {
    const dnnl::inner_product_backward_data::primitive_desc data({x, w, y}, engine(), forward);
    return make_run("any", dnnl::inner_product_backward_data(data),
                    {{DNNL_ARG_DIFF_DST, data.diff_dst_desc()},
                     {DNNL_ARG_WEIGHTS, data.weights_desc()},
                     {DNNL_ARG_DIFF_SRC, data.diff_src_desc()}});
  }
  const dnnl::inner_product_backward_weights::primitive_desc weights({x, w, bias, y}, engine(), forward);
  return make_run("any", dnnl::inner_product_backward_weights(weights),
                  {{DNNL_ARG_SRC, weights.src_desc()},
                   {DNNL_ARG_DIFF_DST, weights.diff_dst_desc()},
                   {DNNL_ARG_DIFF_WEIGHTS, weights.diff_weights_desc()},
                   {DNNL_ARG_DIFF_BIAS, bias}});
}

}  // namespace

std::string peer_open(const std::string& isa, int threads) {
#if defined(_OPENMP)
  omp_set_num_threads(threads);
#else
  CONVOY_CHECK(threads == 1, "a build without OpenMP has one thread");
#endif
  dnnl::set_max_cpu_isa(isa == "avx512" ? dnnl::cpu_isa::avx512_core
                        : isa == "avx2" ? dnnl::cpu_isa::avx2
                                        : dnnl::cpu_isa::sse41);
  const dnnl_version_t* version = dnnl_version();
  return text("oneDNN ", version->major, ".", version->minor, ".", version->patch);
}

std::vector<PeerRun> peer_runs(const Problem& problem, Pass pass) {
  if (problem.fc) return {fc_run(problem.shape, pass)};
  return {conv_run(problem.shape, pass, memory::format_tag::nhwc, "nhwc"),
          conv_run(problem.shape, pass, memory::format_tag::any, "any")};
}

}  // namespace convoy::bench
