// Gaussians in the world to pictures on the CPU, forward and backward, float and double.
//
// Each picture is projected, sorted and composited by itself: front to back, one Gaussian after the other, in strips
// of one vector of pixels that run down the rows, so that the inner step has no branch but one and no lane is computed
// twice. What the forward pass finds out about a picture is kept for the backward pass. No torch headers: it compiles
// in seconds.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

#include "lanes.h"
#include "splat_world.h"

namespace {

constexpr int kMaxChannels = 8;

// One vector of columns of a Gaussian, from its first to its last row that can reach minimum_alpha there.
template <typename S> struct Strip {
  typedef typename Lanes<S>::Vector Vector;
  Vector dx, along, both;  // exponent of 2 in row dy: along + dy · both + down(dy)
  int first, last;
  Strip(const Flat<S>& g, int x) : first(g.y0), last(g.y1) {
    constexpr int L = Lanes<S>::count;
    dx = Lanes<S>::iota() + (S(x) + S(0.5) - g.mx);
    along = g.exponent - kHalfLog2e<S> * g.a * dx * dx, both = -2 * kHalfLog2e<S> * g.b * dx;
    if (g.x1 - g.x0 < L) return;
    // The outline's lowest and highest points lie at dx = ± top; beside the strip its edge is the extreme instead.
    const S left = S(x) + S(0.5) - g.mx, right = left + (L - 1), top = -g.b / g.a * g.half_y;
    first = std::max(first, static_cast<int>(std::ceil(g.my - S(0.5) + edge(g, std::min(std::max(-top, left), right), S(-1)))));
    last = std::min(last, static_cast<int>(std::floor(g.my - S(0.5) + edge(g, std::min(std::max(top, left), right), S(1)))));
  }
  static S edge(const Flat<S>& g, S dx, S sign) {
    const S root = g.b * g.b * dx * dx - g.c * (g.a * dx * dx - g.reach);
    return root > 0 ? (-g.b * dx + sign * std::sqrt(root)) / g.c : -g.b * dx / g.c;
  }
  Vector alpha(const Flat<S>& g, S dy) const {
    return exp2_negative(along + (dy * both - kHalfLog2e<S> * g.c * dy * dy));
  }
};

// Planes of one picture with room for a vector beyond each row.
template <typename S> struct Canvas {
  int64_t stride, plane;
  std::vector<S> buffer;
  Canvas(const Shown<S>& in, int planes)
      : stride(in.width + Lanes<S>::count), plane(in.height * stride), buffer(planes * plane, S(0)) {}
  S* at(int which) { return buffer.data() + which * plane; }
};

template <typename S> void forward_image(const Shown<S>& in, const Flat<S>* sorted, int64_t count, S* out) {
  typedef typename Lanes<S>::Vector Vector;
  const Vector zero = {};
  const int C = in.channels, H = in.height, W = in.width;
  Canvas<S> canvas(in, C + 1);
  S *colour = canvas.at(0), *transmittance = canvas.at(C);
  std::fill(transmittance, transmittance + canvas.plane, S(1));
  for (const Flat<S>* g = sorted; g < sorted + count; ++g) {
    const S* feature = in.feature + int64_t(g->index) * C;
    for (int x = g->x0; x <= g->x1; x += Lanes<S>::count) {
      const Strip<S> strip(*g, x);
      for (int y = strip.first; y <= strip.last; ++y) {
        const int64_t pixel = y * canvas.stride + x;
        const Vector t = Lanes<S>::load(transmittance + pixel);
        if (!any_open<S>(t, in.limits.least)) continue;
        const Vector alpha = strip.alpha(*g, S(y) + S(0.5) - g->my);
        const Vector bounded = alpha < in.limits.maximum_alpha ? alpha : zero + in.limits.maximum_alpha;
        const Vector kept = alpha >= in.limits.minimum_alpha ? bounded : zero;
        const Vector weight = t >= in.limits.least ? t * kept : zero;
        Lanes<S>::store(transmittance + pixel, t - weight);
        for (int c = 0; c < C; ++c) {
          S* row = colour + c * canvas.plane + pixel;
          Lanes<S>::store(row, Lanes<S>::load(row) + weight * feature[c]);
        }
      }
    }
  }
  for (int c = 0; c <= C; ++c)
    for (int y = 0; y < H; ++y)
      for (int x = 0; x < W; ++x) {
        const S value = canvas.at(c)[y * canvas.stride + x];
        *out++ = c < C ? value : S(1) - value;
      }
}

// Per pixel, `rest` is what the Gaussians not yet passed contribute to sum(grad_out * out): suffix sums without a
// second, back-to-front pass.
template <typename S>
void backward_image(const Shown<S>& in, const Flat<S>* sorted, int64_t count, const S* out,
                    const S* grad_out, const Gradients<S>& grad) {
  typedef typename Lanes<S>::Vector Vector;
  const Vector zero = {};
  const int C = in.channels, H = in.height, W = in.width;
  Canvas<S> canvas(in, C + 3);
  S *gradient = canvas.at(0), *transmittance = canvas.at(C + 1), *rest = canvas.at(C + 2);
  std::fill(transmittance, transmittance + canvas.plane, S(1));
  for (int c = 0; c <= C; ++c)
    for (int y = 0; y < H; ++y)
      for (int x = 0; x < W; ++x, ++grad_out, ++out) {
        canvas.at(c)[y * canvas.stride + x] = *grad_out;
        rest[y * canvas.stride + x] += *grad_out * *out;
      }
  for (const Flat<S>* g = sorted; g < sorted + count; ++g) {
    const S* feature = in.feature + int64_t(g->index) * C;
    Vector q0 = zero, qx = zero, qy = zero, qxx = zero, qxy = zero, qyy = zero, by_channel[kMaxChannels] = {};
    for (int x = g->x0; x <= g->x1; x += Lanes<S>::count) {
      const Strip<S> strip(*g, x);
      Vector p0 = zero, py = zero, pyy = zero;
      for (int y = strip.first; y <= strip.last; ++y) {
        const int64_t pixel = y * canvas.stride + x;
        const Vector t = Lanes<S>::load(transmittance + pixel);
        if (!any_open<S>(t, in.limits.least)) continue;
        Vector along = Lanes<S>::load(gradient + C * canvas.plane + pixel);
        for (int c = 0; c < C; ++c) along += Lanes<S>::load(gradient + c * canvas.plane + pixel) * feature[c];
        const S dy = S(y) + S(0.5) - g->my;
        const Vector alpha = strip.alpha(*g, dy);
        const Vector bounded = alpha < in.limits.maximum_alpha ? alpha : zero + in.limits.maximum_alpha;
        const Vector counted = alpha >= in.limits.minimum_alpha ? bounded : zero;
        const Vector kept = t >= in.limits.least ? counted : zero;
        const Vector weight = t * kept;
        const Vector after = Lanes<S>::load(rest + pixel) - weight * along;
        Lanes<S>::store(rest + pixel, after);
        Lanes<S>::store(transmittance + pixel, t - weight);
        const Vector q = alpha < in.limits.maximum_alpha ? (t * along - after / (S(1) - kept)) * kept : zero;
        p0 += q, py += q * dy, pyy += q * (dy * dy);
        for (int c = 0; c < C; ++c) by_channel[c] += weight * Lanes<S>::load(gradient + c * canvas.plane + pixel);
      }
      const Vector px = p0 * strip.dx;
      q0 += p0, qy += py, qyy += pyy, qx += px, qxx += px * strip.dx, qxy += py * strip.dx;
    }
    const S sum_x = lane_sum<S>(qx), sum_y = lane_sum<S>(qy);
    unproject(in, g->index,
              {g->a * sum_x + g->b * sum_y, g->b * sum_x + g->c * sum_y, S(-0.5) * lane_sum<S>(qxx),
               -lane_sum<S>(qxy), S(-0.5) * lane_sum<S>(qyy), lane_sum<S>(q0) / g->opacity},
              grad);
    for (int c = 0; c < C; ++c) grad.feature[int64_t(g->index) * C + c] = lane_sum<S>(by_channel[c]);
  }
}

template <typename Work> void parallel(int64_t images, int64_t threads, Work work) {
  std::atomic<int64_t> next{0};
  auto loop = [&] { for (int64_t image = next++; image < images; image = next++) work(image); };
  std::vector<std::thread> helpers;
  for (int64_t k = 1; k < std::min(threads, images); ++k) helpers.emplace_back(loop);
  loop();
  for (auto& helper : helpers) helper.join();
}

template <typename S> World<S> pack(const int64_t* size, const double* limit, const S* const* input) {
  return {size[0], size[1], size[2], size[3], size[4], size[6],
          {size[7], size[8], size[9], size[10], size[11]},
          input[0], input[1], input[2], input[3], input[4], input[5], input[6], input[7],
          {S(limit[0]), S(limit[1]), S(limit[2]), S(limit[3]), S(limit[4])}};
}

// Sums of the pictures' gradients [B, length] over the pictures of each row [rows, length].
template <typename S> void gather(const std::vector<S>& each, int64_t images, int64_t rows, int64_t length, S* target) {
  if (!target) return;
  std::fill(target, target + rows * length, S(0));
  for (int64_t image = 0; image < images; ++image) {
    S* row = target + image * rows / images * length;
    const S* one = each.data() + image * length;
    for (int64_t i = 0; i < length; ++i) row[i] += one[i];
  }
}

template <typename S>
void splat_forward(const int64_t* size, const double* limit, const S* const* input, S* out, Flat<S>* sorted, int64_t* count) {
  const World<S> in = pack<S>(size, limit, input);
  const int64_t area = (in.channels + 1) * in.height * in.width;
  parallel(in.images, size[5], [&](int64_t image) {
    Flat<S>* own = sorted + image * in.gaussians;
    const Shown<S> shown(in, image);
    count[image] = project(shown, own);
    forward_image(shown, own, count[image], out + image * area);
  });
}

template <typename S>
void splat_backward(const int64_t* size, const double* limit, const S* const* input, const S* out, const Flat<S>* sorted,
                    const int64_t* count, const S* grad_out, S* const* grad) {
  const World<S> in = pack<S>(size, limit, input);
  const int64_t B = in.images, N = in.gaussians, area = (in.channels + 1) * in.height * in.width;
  const int64_t length[5] = {3 * N, in.entries * N, in.linear ? 9 * N : 0, N, in.channels * N};
  std::vector<S> each[5];
  for (int k = 0; k < 5; ++k) each[k].assign(B * length[k], S(0));
  std::fill(grad[5], grad[5] + B, S(0)), std::fill(grad[6], grad[6] + 2 * B, S(0));
  parallel(B, size[5], [&](int64_t image) {
    S* own[5];
    for (int k = 0; k < 5; ++k) own[k] = each[k].data() + image * length[k];
    const Gradients<S> to = {own[0], own[1], own[2], own[3], own[4], grad[5] + image, grad[6] + 2 * image};
    backward_image(Shown<S>(in, image), sorted + image * N, count[image], out + image * area, grad_out + image * area, to);
  });
  for (int k = 0; k < 5; ++k) gather(each[k], B, in.rows[k], length[k], grad[k]);
}

}  // namespace

// size: images, gaussians, channels, height, width, threads, entries of a covariance (1 or 9), rows of mean, covariance,
// linear, opacity, feature. limit: minimum alpha, maximum alpha, near plane, least transmittance, screen blur.
// input: mean, covariance, linear (or null), opacity, feature, matrix, focal, centre. out: [B, C + 1, H, W], the last
// channel is the accumulated alpha. sorted: flat_bytes bytes for each picture and Gaussian; count: [B]. grad: of the
// inputs but the matrices, shaped as these.
#define SPLAT(S, suffix)                                                                                             \
  extern "C" void splat_forward_##suffix(const int64_t* size, const double* limit, const S* const* input, S* out,   \
                                         void* sorted, int64_t* count) {                                            \
    splat_forward<S>(size, limit, input, out, static_cast<Flat<S>*>(sorted), count);                                \
  }                                                                                                                  \
  extern "C" void splat_backward_##suffix(const int64_t* size, const double* limit, const S* const* input,          \
                                          const S* out, const void* sorted, const int64_t* count, const S* grad_out, \
                                          S* const* grad) {                                                         \
    splat_backward<S>(size, limit, input, out, static_cast<const Flat<S>*>(sorted), count, grad_out, grad);         \
  }                                                                                                                  \
  extern "C" int64_t flat_bytes_##suffix() { return sizeof(Flat<S>); }
SPLAT(float, float32)
SPLAT(double, float64)

extern "C" int64_t vector_bytes() { return kBytes; }
