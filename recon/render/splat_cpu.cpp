// Front-to-back alpha compositing of 2D Gaussians on the CPU, forward and backward, float and double.
//
// The loop runs over Gaussians outside and over short pixel rows inside, so that the inner step is one
// vector of pixels without a branch. No torch headers: it compiles in a second.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <thread>
#include <vector>

namespace {

constexpr int kMaxChannels = 8;

// Bytes of one vector register of the processor that is compiled for: wider vectors are taken apart and cost threefold.
#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif

// One register of pixels: GCC's and clang's vector extension, so that no loop depends on the auto-vectoriser.
template <typename S> struct Lanes {
  static constexpr int count = kBytes / sizeof(S);
  typedef S Vector __attribute__((vector_size(kBytes)));
  static Vector load(const S* source) { Vector v; __builtin_memcpy(&v, source, kBytes); return v; }
  static void store(S* target, const Vector& v) { __builtin_memcpy(target, &v, kBytes); }
  static Vector iota() { Vector v; for (int l = 0; l < count; ++l) v[l] = S(l); return v; }
};
// Whether some pixel still lets enough light through to be worth a Gaussian.
template <typename S> inline bool any_open(const typename Lanes<S>::Vector& transmittance, S least) {
  const auto open = transmittance >= least;
  uint64_t words[kBytes / 8], any = 0;
  __builtin_memcpy(words, &open, kBytes);
  for (uint64_t word : words) any |= word;
  return any != 0;
}
typedef Lanes<float>::Vector Floats;
typedef Lanes<double>::Vector Doubles;
typedef int32_t Integers __attribute__((vector_size(kBytes)));

// exp for arguments <= 0. The float version is a degree-6 polynomial of 2^fraction (error below 2e-7).
inline Floats exp_negative(const Floats& x) {
  const Floats t = (x > -80.0f ? x : Floats{} - 80.0f) * 1.44269504088896341f;
  const Integers whole = __builtin_convertvector(t - 0.5f, Integers);  // truncation rounds t <= 0 to the nearest
  const Floats f = t - __builtin_convertvector(whole, Floats);
  Floats p = 1.535336188319500e-4f * f + 1.339887440266574e-3f;
  p = p * f + 9.618437357674640e-3f;
  p = p * f + 5.550332471162809e-2f;
  p = p * f + 2.402264791363012e-1f;
  p = p * f + 6.931472028550421e-1f;
  p = p * f + 1.0f;
  const Integers bits = (whole + 127) << 23;
  Floats scale;
  __builtin_memcpy(&scale, &bits, kBytes);
  return p * scale;
}
inline Doubles exp_negative(const Doubles& x) {
  Doubles y;
  for (int l = 0; l < Lanes<double>::count; ++l) y[l] = std::exp(x[l]);
  return y;
}

template <typename S> struct Images {  // strides: one image after the other, contiguous
  int64_t gaussians, channels, height, width;
  const S *mean, *conic, *opacity, *depth, *feature;  // [B,N,2] [B,N,3] [B,N] [B,N] [B,N,C]
  S minimum_alpha, maximum_alpha, near, least;  // least: transmittance below which a pixel is closed
};

// Pixel columns [first, last] of row y that the Gaussian reaches; empty when first > last.
template <typename S> struct Footprint {
  S mx, my, a, b, c, reach;  // reach: largest value of the quadratic form that still gives minimum_alpha
  int y0, y1;
  Footprint(const Images<S>& in, int64_t i) {
    mx = in.mean[2 * i], my = in.mean[2 * i + 1];
    a = in.conic[3 * i], b = in.conic[3 * i + 1], c = in.conic[3 * i + 2];
    S determinant = a * c - b * b;
    reach = in.opacity[i] > in.minimum_alpha ? 2 * std::log(in.opacity[i] / in.minimum_alpha) : S(-1);
    bool visible = reach > 0 && determinant > 0 && in.depth[i] > in.near && std::isfinite(mx) && std::isfinite(my);
    S half = visible ? std::sqrt(reach * a / determinant) : S(0);
    S low = std::max(my - half - S(0.5), S(-1)), high = std::min(my + half - S(0.5), S(in.height));
    y0 = std::max(0, static_cast<int>(std::ceil(low)));
    y1 = visible ? std::min<int>(in.height - 1, static_cast<int>(std::floor(high))) : -1;
  }
  void columns(const Images<S>& in, int y, int& first, int& last) const {
    S dy = S(y) + S(0.5) - my;
    S root = b * b * dy * dy - a * (c * dy * dy - reach);
    if (root < 0) { first = 0, last = -1; return; }
    root = std::sqrt(root);
    S low = std::max(mx + (-b * dy - root) / a - S(0.5), S(-1));
    S high = std::min(mx + (-b * dy + root) / a - S(0.5), S(in.width));
    first = std::max(0, static_cast<int>(std::floor(low)));
    last = std::min<int>(in.width - 1, static_cast<int>(std::ceil(high)));
  }
};

template <typename S> std::vector<int32_t> depth_order(const S* depth, int64_t count) {
  std::vector<int32_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [depth](int32_t i, int32_t j) { return depth[i] < depth[j] || (depth[i] == depth[j] && i < j); });
  return order;
}

template <typename S>
void forward_image(const Images<S>& in, int64_t image, S* out) {
  typedef typename Lanes<S>::Vector Vector;
  constexpr int L = Lanes<S>::count;
  const Vector zero = {}, lane = Lanes<S>::iota();
  const int C = in.channels, H = in.height, W = in.width, stride = W + L;
  const int64_t base = image * in.gaussians, plane = int64_t(H) * stride;
  std::vector<S> buffer((C + 1) * plane, S(0));
  S* transmittance = buffer.data() + C * plane;
  std::fill(transmittance, transmittance + plane, S(1));
  for (int32_t local : depth_order(in.depth + base, in.gaussians)) {
    const int64_t i = base + local;
    const Footprint<S> g(in, i);
    const S* feature = in.feature + i * C;
    const S opacity = in.opacity[i];
    for (int y = g.y0; y <= g.y1; ++y) {
      int first, last;
      g.columns(in, y, first, last);
      const S dy = S(y) + S(0.5) - g.my;
      for (int x = first; x <= last; x += L) {
        const int64_t pixel = int64_t(y) * stride + x;
        const Vector t = Lanes<S>::load(transmittance + pixel);
        if (!any_open<S>(t, in.least)) continue;
        const Vector dx = lane + (S(x) + S(0.5) - g.mx);
        const Vector alpha = opacity * exp_negative(S(-0.5) * (g.a * dx * dx + g.c * dy * dy) - g.b * dx * dy);
        const Vector bounded = alpha < in.maximum_alpha ? alpha : zero + in.maximum_alpha;
        const Vector kept = alpha >= in.minimum_alpha ? bounded : zero;
        const Vector weight = t >= in.least ? t * kept : zero;
        Lanes<S>::store(transmittance + pixel, t - weight);
        for (int c = 0; c < C; ++c) {
          S* row = buffer.data() + c * plane + pixel;
          Lanes<S>::store(row, Lanes<S>::load(row) + weight * feature[c]);
        }
      }
    }
  }
  S* target = out + image * (C + 1) * H * W;
  for (int c = 0; c <= C; ++c)
    for (int y = 0; y < H; ++y)
      for (int x = 0; x < W; ++x) {
        const S value = buffer[c * plane + int64_t(y) * stride + x];
        target[(int64_t(c) * H + y) * W + x] = c < C ? value : S(1) - value;
      }
}

template <typename S, typename Vector> S lane_sum(const Vector& values) {
  S total = 0;
  for (int l = 0; l < Lanes<S>::count; ++l) total += values[l];
  return total;
}

// Per pixel, `rest` is what the Gaussians not yet passed contribute to sum(grad_out * out): suffix sums without a
// second, back-to-front pass.
template <typename S>
void backward_image(const Images<S>& in, int64_t image, const S* out, const S* grad_out, S* grad_mean, S* grad_conic,
                    S* grad_opacity, S* grad_feature) {
  typedef typename Lanes<S>::Vector Vector;
  constexpr int L = Lanes<S>::count;
  const Vector zero = {}, lane = Lanes<S>::iota();
  const int C = in.channels, H = in.height, W = in.width, stride = W + L;
  const int64_t base = image * in.gaussians, plane = int64_t(H) * stride, area = int64_t(H) * W;
  std::vector<S> buffer((C + 3) * plane, S(0));
  S* transmittance = buffer.data() + (C + 1) * plane;
  S* rest = transmittance + plane;
  std::fill(transmittance, transmittance + plane, S(1));
  const S *value = out + image * (C + 1) * area, *gradient = grad_out + image * (C + 1) * area;
  for (int c = 0; c <= C; ++c)
    for (int y = 0; y < H; ++y)
      for (int x = 0; x < W; ++x) {
        const int64_t source = c * area + int64_t(y) * W + x, pixel = int64_t(y) * stride + x;
        buffer[c * plane + pixel] = gradient[source];
        rest[pixel] += gradient[source] * value[source];
      }
  for (int32_t local : depth_order(in.depth + base, in.gaussians)) {
    const int64_t i = base + local;
    const Footprint<S> g(in, i);
    const S* feature = in.feature + i * C;
    const S opacity = in.opacity[i];
    Vector q0 = zero, qx = zero, qy = zero, qxx = zero, qxy = zero, qyy = zero, by_channel[kMaxChannels] = {};
    for (int y = g.y0; y <= g.y1; ++y) {
      int first, last;
      g.columns(in, y, first, last);
      const S dy = S(y) + S(0.5) - g.my;
      for (int x = first; x <= last; x += L) {
        const int64_t pixel = int64_t(y) * stride + x;
        const Vector t = Lanes<S>::load(transmittance + pixel);
        if (!any_open<S>(t, in.least)) continue;
        Vector along = Lanes<S>::load(buffer.data() + C * plane + pixel);
        for (int c = 0; c < C; ++c) along += Lanes<S>::load(buffer.data() + c * plane + pixel) * feature[c];
        const Vector dx = lane + (S(x) + S(0.5) - g.mx);
        const Vector alpha = opacity * exp_negative(S(-0.5) * (g.a * dx * dx + g.c * dy * dy) - g.b * dx * dy);
        const Vector bounded = alpha < in.maximum_alpha ? alpha : zero + in.maximum_alpha;
        const Vector counted = alpha >= in.minimum_alpha ? bounded : zero;
        const Vector kept = t >= in.least ? counted : zero;
        const Vector weight = t * kept;
        const Vector after = Lanes<S>::load(rest + pixel) - weight * along;
        Lanes<S>::store(rest + pixel, after);
        Lanes<S>::store(transmittance + pixel, t - weight);
        const Vector grad = (t * along - after / (S(1) - kept)) * kept;
        const Vector q = alpha < in.maximum_alpha ? grad : zero;
        const Vector q_dx = q * dx;
        q0 += q, qx += q_dx, qxx += q_dx * dx, qy += q * dy, qxy += q_dx * dy, qyy += q * (dy * dy);
        for (int c = 0; c < C; ++c) by_channel[c] += weight * Lanes<S>::load(buffer.data() + c * plane + pixel);
      }
    }
    const S sum_x = lane_sum<S>(qx), sum_y = lane_sum<S>(qy);
    grad_mean[2 * i] = g.a * sum_x + g.b * sum_y;
    grad_mean[2 * i + 1] = g.b * sum_x + g.c * sum_y;
    grad_conic[3 * i] = S(-0.5) * lane_sum<S>(qxx);
    grad_conic[3 * i + 1] = -lane_sum<S>(qxy);
    grad_conic[3 * i + 2] = S(-0.5) * lane_sum<S>(qyy);
    grad_opacity[i] = opacity > 0 ? lane_sum<S>(q0) / opacity : S(0);
    for (int c = 0; c < C; ++c) grad_feature[i * C + c] = lane_sum<S>(by_channel[c]);
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

template <typename S> Images<S> pack(const int64_t* size, const double* limit, const S* const* input) {
  return {size[1], size[2], size[3], size[4], input[0], input[1], input[2], input[3], input[4],
          S(limit[0]), S(limit[1]), S(limit[2]), S(limit[3])};
}

// Isotropic Gaussians straight from the world, so that no projected tensor exists outside this file.
template <typename S> struct World {
  int64_t gaussians;
  const S *mean, *variance, *opacity, *matrix, *focal, *centre;  // [B,N,3] [N] [N] [B,4,4] [B] [B,2]
  S blur, near;
};

// The local affine projection of one Gaussian into one picture; `splats.project` holds the same formulas.
template <typename S> struct Projection {
  S x, y, z, depth, u, v, k, scale, xx, xy, yy, sharp, determinant, ratio;
  Projection(const World<S>& in, int64_t image, int64_t n) {
    const S *p = in.mean + 3 * (image * in.gaussians + n), *m = in.matrix + 16 * image;
    x = m[0] * p[0] + m[1] * p[1] + m[2] * p[2] + m[3];
    y = m[4] * p[0] + m[5] * p[1] + m[6] * p[2] + m[7];
    z = m[8] * p[0] + m[9] * p[1] + m[10] * p[2] + m[11];
    depth = z > in.near ? z : in.near;
    u = x / depth, v = y / depth, k = in.focal[image] / depth;
    scale = in.variance[n] * k * k;
    xx = scale * (1 + u * u), xy = scale * u * v, yy = scale * (1 + v * v);
    sharp = std::max(xx * yy - xy * xy, S(1e-12));
    xx += in.blur, yy += in.blur;
    determinant = xx * yy - xy * xy;
    ratio = std::sqrt(sharp / determinant);
  }
};

template <typename S> struct Projected {  // one picture's 2D Gaussians
  std::vector<S> mean, conic, opacity, depth;
  Projected(const World<S>& in, int64_t image)
      : mean(2 * in.gaussians), conic(3 * in.gaussians), opacity(in.gaussians), depth(in.gaussians) {
    for (int64_t n = 0; n < in.gaussians; ++n) {
      const Projection<S> g(in, image, n);
      mean[2 * n] = in.focal[image] * g.u + in.centre[2 * image];
      mean[2 * n + 1] = in.focal[image] * g.v + in.centre[2 * image + 1];
      conic[3 * n] = g.yy / g.determinant, conic[3 * n + 1] = -g.xy / g.determinant;
      conic[3 * n + 2] = g.xx / g.determinant;
      opacity[n] = in.opacity[n] * g.ratio;
      depth[n] = g.z > in.near ? g.z : S(0);
    }
  }
  Images<S> images(const Images<S>& like, const S* feature) const {
    Images<S> one = like;
    one.mean = mean.data(), one.conic = conic.data(), one.opacity = opacity.data(), one.depth = depth.data();
    one.feature = feature;
    return one;
  }
};

// Chain rule through Projection: from gradients of the 2D Gaussian to those of the 3D one; returns d/d(variance).
template <typename S>
S unproject(const World<S>& in, int64_t image, int64_t n, const S* g_mean2, const S* g_conic, S g_opacity2, S* g_mean3,
            S& g_opacity, S& g_focal) {
  const Projection<S> g(in, image, n);
  const S d = g.determinant, f = in.focal[image];
  g_opacity = g_opacity2 * g.ratio;
  const S g_ratio = g_opacity2 * in.opacity[n];
  const S g_sharp = g.sharp > S(1e-12) ? g_ratio * g.ratio / (2 * g.sharp) : S(0);
  const S g_d = (-g_conic[0] * g.yy + g_conic[1] * g.xy - g_conic[2] * g.xx) / (d * d) - g_ratio * g.ratio / (2 * d);
  const S plain_xx = g.xx - in.blur, plain_yy = g.yy - in.blur;
  const S g_xx = g_conic[2] / d + g_d * g.yy + g_sharp * plain_yy;
  const S g_yy = g_conic[0] / d + g_d * g.xx + g_sharp * plain_xx;
  const S g_xy = -g_conic[1] / d - 2 * g.xy * (g_d + g_sharp);
  const S g_scale = g_xx * (1 + g.u * g.u) + g_xy * g.u * g.v + g_yy * (1 + g.v * g.v);
  const S g_u = g.scale * (2 * g_xx * g.u + g_xy * g.v) + f * g_mean2[0];
  const S g_v = g.scale * (2 * g_yy * g.v + g_xy * g.u) + f * g_mean2[1];
  const S g_k = 2 * g_scale * in.variance[n] * g.k;
  g_focal += g_k / g.depth + g.u * g_mean2[0] + g.v * g_mean2[1];
  const S g_x = g_u / g.depth, g_y = g_v / g.depth;
  const S g_z = g.z > in.near ? -(g_k * g.k + g_u * g.u + g_v * g.v) / g.depth : S(0);
  const S* m = in.matrix + 16 * image;
  for (int axis = 0; axis < 3; ++axis) g_mean3[axis] = m[axis] * g_x + m[4 + axis] * g_y + m[8 + axis] * g_z;
  return g_scale * g.k * g.k;
}

template <typename S> Images<S> one_image(const int64_t* size, const double* limit) {
  return {size[1], size[2], size[3], size[4], nullptr, nullptr, nullptr, nullptr, nullptr,
          S(limit[0]), S(limit[1]), S(limit[2]), S(limit[3])};
}

template <typename S> World<S> world(const int64_t* size, const double* limit, const S* const* input) {
  return {size[1], input[0], input[1], input[2], input[3], input[4], input[5], S(limit[4]), S(limit[2])};
}

template <typename S> void world_forward(const int64_t* size, const double* limit, const S* const* input, S* out) {
  const World<S> in = world<S>(size, limit, input);
  const int64_t area = (size[2] + 1) * size[3] * size[4];
  parallel(size[0], size[5], [&](int64_t image) {
    const Projected<S> flat(in, image);
    forward_image<S>(flat.images(one_image<S>(size, limit), input[6]), 0, out + image * area);
  });
}

template <typename S>
void world_backward(const int64_t* size, const double* limit, const S* const* input, const S* out, const S* grad_out,
                    S* const* grad) {
  const World<S> in = world<S>(size, limit, input);
  const int64_t N = size[1], C = size[2], area = (C + 1) * size[3] * size[4];
  parallel(size[0], size[5], [&](int64_t image) {
    const Projected<S> flat(in, image);
    std::vector<S> g_mean(2 * N), g_conic(3 * N), g_opacity(N);
    backward_image<S>(flat.images(one_image<S>(size, limit), input[6]), 0, out + image * area, grad_out + image * area,
                      g_mean.data(), g_conic.data(), g_opacity.data(), grad[3] + image * N * C);
    S g_focal = 0, g_x = 0, g_y = 0;
    for (int64_t n = 0; n < N; ++n) {
      const int64_t i = image * N + n;
      grad[1][i] = unproject<S>(in, image, n, &g_mean[2 * n], &g_conic[3 * n], g_opacity[n], grad[0] + 3 * i,
                                grad[2][i], g_focal);
      g_x += g_mean[2 * n], g_y += g_mean[2 * n + 1];
    }
    grad[4][image] = g_focal, grad[5][2 * image] = g_x, grad[5][2 * image + 1] = g_y;
  });
}

}  // namespace

// size: images, gaussians, channels, height, width, threads. limit: minimum alpha, maximum alpha, near plane, least transmittance.
// input: mean, conic, opacity, depth, feature. out: [B, C + 1, H, W], the last channel is the accumulated alpha.
#define SPLAT(S, suffix)                                                                                              \
  extern "C" void splat_forward_##suffix(const int64_t* size, const double* limit, const S* const* input, S* out) {  \
    const Images<S> in = pack<S>(size, limit, input);                                                                 \
    parallel(size[0], size[5], [&](int64_t image) { forward_image<S>(in, image, out); });                            \
  }                                                                                                                   \
  extern "C" void splat_backward_##suffix(const int64_t* size, const double* limit, const S* const* input,           \
                                          const S* out, const S* grad_out, S* const* grad) {                         \
    const Images<S> in = pack<S>(size, limit, input);                                                                 \
    parallel(size[0], size[5], [&](int64_t image) {                                                                  \
      backward_image<S>(in, image, out, grad_out, grad[0], grad[1], grad[2], grad[3]);                               \
    });                                                                                                               \
  }
SPLAT(float, float32)
SPLAT(double, float64)

// As above for isotropic Gaussians in the world. input: mean, variance, opacity, matrix, focal, centre, feature [N, C].
// limit[4]: screen blur. grad: mean [B,N,3]; variance, opacity [B,N], feature [B,N,C], to be summed over B; focal [B],
// centre [B,2].
#define SPLAT_WORLD(S, suffix)                                                                                        \
  extern "C" void world_forward_##suffix(const int64_t* size, const double* limit, const S* const* input, S* out) {   \
    world_forward<S>(size, limit, input, out);                                                                        \
  }                                                                                                                   \
  extern "C" void world_backward_##suffix(const int64_t* size, const double* limit, const S* const* input,           \
                                          const S* out, const S* grad_out, S* const* grad) {                         \
    world_backward<S>(size, limit, input, out, grad_out, grad);                                                       \
  }
SPLAT_WORLD(float, float32)
SPLAT_WORLD(double, float64)

extern "C" int64_t vector_bytes() { return kBytes; }

// Marks every pixel whose centre lies in one of the triangles [T, 3, 2] (pixels); out: [H, W] bytes, zero at the start.
extern "C" void cover_triangles(int64_t triangles, int64_t height, int64_t width, const float* corner, uint8_t* out) {
  for (int64_t k = 0; k < triangles; ++k) {
    const float *p = corner + 6 * k, x0 = p[0], y0 = p[1], x1 = p[2], y1 = p[3], x2 = p[4], y2 = p[5];
    const float area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0);
    if (!std::isfinite(area) || area == 0) continue;
    const float sign = area > 0 ? 1.0f : -1.0f;
    const float left = std::min({x0, x1, x2}), right = std::max({x0, x1, x2});
    const float top = std::min({y0, y1, y2}), bottom = std::max({y0, y1, y2});
    if (right < 0 || bottom < 0 || left > width || top > height) continue;
    const int64_t first = std::max<int64_t>(0, std::ceil(left - 0.5f)), last = std::min<int64_t>(width - 1, std::floor(right - 0.5f));
    const int64_t upper = std::max<int64_t>(0, std::ceil(top - 0.5f)), lower = std::min<int64_t>(height - 1, std::floor(bottom - 0.5f));
    for (int64_t y = upper; y <= lower; ++y)
      for (int64_t x = first; x <= last; ++x) {
        const float u = x + 0.5f, v = y + 0.5f;
        const bool inside = sign * ((x1 - x0) * (v - y0) - (u - x0) * (y1 - y0)) >= 0 &&
                            sign * ((x2 - x1) * (v - y1) - (u - x1) * (y2 - y1)) >= 0 &&
                            sign * ((x0 - x2) * (v - y2) - (u - x2) * (y0 - y2)) >= 0;
        if (inside) out[y * width + x] = 1;
      }
  }
}

// Nearest triangle at every pixel centre. corner: [T, 3, 3] x, y (pixels) and depth > 0; face: [H, W], -1 where there is
// none; share: [H, W, 3], perspective-correct barycentric coordinates.
extern "C" void nearest_triangles(int64_t triangles, int64_t height, int64_t width, const float* corner, int32_t* face,
                                  float* share) {
  std::vector<float> nearest(height * width, 1e30f);
  std::fill(face, face + height * width, -1);
  for (int64_t k = 0; k < triangles; ++k) {
    const float* p = corner + 9 * k;
    const float area = (p[3] - p[0]) * (p[7] - p[1]) - (p[6] - p[0]) * (p[4] - p[1]);
    if (!std::isfinite(area) || area == 0 || std::min({p[2], p[5], p[8]}) <= 0) continue;
    const float left = std::min({p[0], p[3], p[6]}), right = std::max({p[0], p[3], p[6]});
    const float top = std::min({p[1], p[4], p[7]}), bottom = std::max({p[1], p[4], p[7]});
    if (right < 0 || bottom < 0 || left > width || top > height) continue;
    const int64_t first = std::max<int64_t>(0, std::ceil(left - 0.5f)), last = std::min<int64_t>(width - 1, std::floor(right - 0.5f));
    const int64_t upper = std::max<int64_t>(0, std::ceil(top - 0.5f)), lower = std::min<int64_t>(height - 1, std::floor(bottom - 0.5f));
    for (int64_t y = upper; y <= lower; ++y)
      for (int64_t x = first; x <= last; ++x) {
        const float u = x + 0.5f, v = y + 0.5f;
        float s0 = ((p[6] - p[3]) * (v - p[4]) - (u - p[3]) * (p[7] - p[4])) / area / p[2];
        float s1 = ((p[0] - p[6]) * (v - p[7]) - (u - p[6]) * (p[1] - p[7])) / area / p[5];
        float s2 = ((p[3] - p[0]) * (v - p[1]) - (u - p[0]) * (p[4] - p[1])) / area / p[8];
        if (s0 < 0 || s1 < 0 || s2 < 0) continue;
        const float inverse = s0 + s1 + s2, depth = 1 / inverse;
        const int64_t pixel = y * width + x;
        if (!(depth < nearest[pixel])) continue;
        nearest[pixel] = depth, face[pixel] = static_cast<int32_t>(k);
        share[3 * pixel] = s0 / inverse, share[3 * pixel + 1] = s1 / inverse, share[3 * pixel + 2] = s2 / inverse;
      }
  }
}
