// 3D Gaussians as one picture sees them: projection with its chain rule, and their order by depth.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

namespace {

template <typename S> struct Limits {  // least: transmittance below which a pixel is closed; blur: square pixels
  S minimum_alpha, maximum_alpha, near, least, blur;
};

// N Gaussians and B cameras. Each input of the Gaussians has one row for all pictures, one for each, or one for each
// run of consecutive pictures. covariance: one variance or nine entries; linear (null: identity) is applied to it.
template <typename S> struct World {
  int64_t images, gaussians, channels, height, width, entries;
  int64_t rows[5];  // of mean, covariance, linear, opacity, feature
  const S *mean, *covariance, *linear, *opacity, *feature;  // [.,N,3] [.,N,entries] [.,N,9] [.,N] [.,N,C]
  const S *matrix, *focal, *centre;                         // [B,4,4] [B] [B,2]
  Limits<S> limits;
};

// The rows of World that one picture shows, and its camera.
template <typename S> struct Shown {
  const S *mean, *covariance, *linear, *opacity, *feature, *matrix;
  S focal, centre[2];
  int64_t gaussians, channels, height, width, entries;
  Limits<S> limits;
  Shown(const World<S>& in, int64_t image)
      : matrix(in.matrix + 16 * image), focal(in.focal[image]), centre{in.centre[2 * image], in.centre[2 * image + 1]},
        gaussians(in.gaussians), channels(in.channels), height(in.height), width(in.width), entries(in.entries), limits(in.limits) {
    const auto first = [&](int input) { return image * in.rows[input] / in.images * in.gaussians; };
    mean = in.mean + 3 * first(0), covariance = in.covariance + entries * first(1);
    linear = in.linear ? in.linear + 9 * first(2) : nullptr;
    opacity = in.opacity + first(3), feature = in.feature + channels * first(4);
  }
};

// The local affine projection of one Gaussian into one picture; `splats.project` holds the same formulas.
template <typename S> struct Projection {
  S x, y, z, depth, u, v, k, xx, xy, yy, sharp, determinant, ratio;
  S to_image[2][3];  // from the world to pixels, at the Gaussian
  S moved[2][3];     // the same after `linear`
  S across[2][3];    // that times the covariance
  Projection(const Shown<S>& in, int64_t n) {
    const S *p = in.mean + 3 * n, *m = in.matrix;
    x = m[0] * p[0] + m[1] * p[1] + m[2] * p[2] + m[3];
    y = m[4] * p[0] + m[5] * p[1] + m[6] * p[2] + m[7];
    z = m[8] * p[0] + m[9] * p[1] + m[10] * p[2] + m[11];
    depth = z > in.limits.near ? z : in.limits.near;
    u = x / depth, v = y / depth, k = in.focal / depth;
    const S* covariance = in.covariance + in.entries * n;
    if (in.entries == 1) {
      const S scale = covariance[0] * k * k;
      xx = scale * (1 + u * u), xy = scale * u * v, yy = scale * (1 + v * v);
    } else {
      for (int j = 0; j < 3; ++j)
        to_image[0][j] = k * (m[j] - u * m[8 + j]), to_image[1][j] = k * (m[4 + j] - v * m[8 + j]);
      const S* linear = in.linear ? in.linear + 9 * n : nullptr;
      for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 3; ++j)
          moved[i][j] = linear ? to_image[i][0] * linear[j] + to_image[i][1] * linear[3 + j] + to_image[i][2] * linear[6 + j]
                               : to_image[i][j];
      for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 3; ++j)
          across[i][j] = moved[i][0] * covariance[j] + moved[i][1] * covariance[3 + j] + moved[i][2] * covariance[6 + j];
      xx = dot(across[0], moved[0]), xy = dot(across[0], moved[1]), yy = dot(across[1], moved[1]);
    }
    sharp = std::max(xx * yy - xy * xy, S(1e-12));
    xx += in.limits.blur, yy += in.limits.blur;
    determinant = xx * yy - xy * xy;
    ratio = std::sqrt(sharp / determinant);
  }
  static S dot(const S* a, const S* b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }
};

// A Gaussian as one picture sees it: alpha = 2^(exponent - along dx² - 2 both dx dy - down dy²) within the box.
template <typename S> struct Flat {
  S mx, my, a, b, c;  // conic a dx² + 2 b dx dy + c dy²
  S opacity, exponent, reach, half_x, half_y;  // reach: largest value of the conic that still gives minimum_alpha
  int32_t index, x0, x1, y0, y1, unused;
};

template <typename S> constexpr S kHalfLog2e = S(0.72134752044448170368);

template <typename S> bool flatten(const Shown<S>& in, int64_t n, Flat<S>& g, S& depth) {
  const Projection<S> p(in, n);
  if (!(p.z > in.limits.near)) return false;
  depth = p.z;
  g.index = static_cast<int32_t>(n), g.unused = 0;
  g.mx = in.focal * p.u + in.centre[0], g.my = in.focal * p.v + in.centre[1];
  g.a = p.yy / p.determinant, g.b = -p.xy / p.determinant, g.c = p.xx / p.determinant;
  g.opacity = in.opacity[n] * p.ratio;
  const S determinant = g.a * g.c - g.b * g.b;
  if (!(g.opacity > in.limits.minimum_alpha) || !(determinant > 0) || !std::isfinite(g.mx) || !std::isfinite(g.my)) return false;
  g.reach = 2 * std::log(g.opacity / in.limits.minimum_alpha), g.exponent = std::log2(g.opacity);
  g.half_x = std::sqrt(g.reach * g.c / determinant), g.half_y = std::sqrt(g.reach * g.a / determinant);
  const auto within = [](S value, int64_t side) { return std::min(std::max(value, S(-1)), S(side)); };
  g.x0 = std::max<int32_t>(0, std::ceil(within(g.mx - g.half_x - S(0.5), in.width)));
  g.y0 = std::max<int32_t>(0, std::ceil(within(g.my - g.half_y - S(0.5), in.height)));
  g.x1 = std::min<int32_t>(in.width - 1, std::floor(within(g.mx + g.half_x - S(0.5), in.width)));
  g.y1 = std::min<int32_t>(in.height - 1, std::floor(within(g.my + g.half_y - S(0.5), in.height)));
  return g.x0 <= g.x1 && g.y0 <= g.y1;
}

// Order of positive numbers, equal ones as they come: radix sort, byte after byte of their bits.
template <typename S> std::vector<int32_t> depth_order(const std::vector<S>& depth) {
  typedef typename std::conditional<sizeof(S) == 4, uint32_t, uint64_t>::type Bits;
  const size_t count = depth.size();
  std::vector<Bits> key(count), key_after(count);
  std::vector<int32_t> order(count), order_after(count);
  if (count) std::memcpy(key.data(), depth.data(), count * sizeof(S));
  for (size_t i = 0; i < count; ++i) order[i] = static_cast<int32_t>(i);
  for (unsigned shift = 0; shift < 8 * sizeof(S); shift += 8) {
    size_t start[257] = {};
    for (size_t i = 0; i < count; ++i) ++start[1 + ((key[i] >> shift) & 255)];
    for (int digit = 0; digit < 256; ++digit) start[digit + 1] += start[digit];
    for (size_t i = 0; i < count; ++i) {
      const size_t place = start[(key[i] >> shift) & 255]++;
      key_after[place] = key[i], order_after[place] = order[i];
    }
    key.swap(key_after), order.swap(order_after);
  }
  return order;
}

// The Gaussians that show in a picture, near ones first; returns their number.
template <typename S> int64_t project(const Shown<S>& in, Flat<S>* sorted) {
  std::vector<Flat<S>> found(in.gaussians);
  std::vector<S> depth(in.gaussians);
  int64_t count = 0;
  for (int64_t n = 0; n < in.gaussians; ++n)
    if (flatten(in, n, found[count], depth[count])) ++count;
  depth.resize(count);
  const std::vector<int32_t> order = depth_order(depth);
  for (int64_t i = 0; i < count; ++i) sorted[i] = found[order[i]];
  return count;
}

// Where the gradients of one picture go.
template <typename S> struct Gradients {
  S *mean, *covariance, *linear, *opacity, *feature, *focal, *centre;
};

// Gradients of the loss by what Flat holds.
template <typename S> struct FlatGradient {
  S mx, my, a, b, c, opacity;
};

// Chain rule through Projection.
template <typename S>
void unproject(const Shown<S>& in, int64_t n, const FlatGradient<S>& of, const Gradients<S>& grad) {
  const Projection<S> g(in, n);
  const S d = g.determinant, f = in.focal;
  grad.opacity[n] = of.opacity * g.ratio;
  const S g_ratio = of.opacity * in.opacity[n];
  const S g_sharp = g.sharp > S(1e-12) ? g_ratio * g.ratio / (2 * g.sharp) : S(0);
  const S g_d = (-of.a * g.yy + of.b * g.xy - of.c * g.xx) / (d * d) - g_ratio * g.ratio / (2 * d);
  const S plain_xx = g.xx - in.limits.blur, plain_yy = g.yy - in.limits.blur;
  const S g_xx = of.c / d + g_d * g.yy + g_sharp * plain_yy;
  const S g_yy = of.a / d + g_d * g.xx + g_sharp * plain_xx;
  const S g_xy = -of.b / d - 2 * g.xy * (g_d + g_sharp);
  const S* m = in.matrix;
  S g_u = f * of.mx, g_v = f * of.my, g_k = 0;
  if (in.entries == 1) {
    const S variance = in.covariance[n], scale = variance * g.k * g.k;
    const S g_scale = g_xx * (1 + g.u * g.u) + g_xy * g.u * g.v + g_yy * (1 + g.v * g.v);
    g_u += scale * (2 * g_xx * g.u + g_xy * g.v), g_v += scale * (2 * g_yy * g.v + g_xy * g.u);
    g_k = 2 * g_scale * variance * g.k;
    grad.covariance[n] = g_scale * g.k * g.k;
  } else {
    const S *linear = in.linear ? in.linear + 9 * n : nullptr;
    S of_moved[2][3], of_image[2][3];
    for (int j = 0; j < 3; ++j) {
      of_moved[0][j] = 2 * g_xx * g.across[0][j] + g_xy * g.across[1][j];
      of_moved[1][j] = 2 * g_yy * g.across[1][j] + g_xy * g.across[0][j];
    }
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j)
        grad.covariance[9 * n + 3 * i + j] = g_xx * g.moved[0][i] * g.moved[0][j] + g_xy * g.moved[0][i] * g.moved[1][j] +
                                             g_yy * g.moved[1][i] * g.moved[1][j];
    for (int i = 0; i < 2; ++i)
      for (int j = 0; j < 3; ++j) of_image[i][j] = linear ? g.dot(of_moved[i], linear + 3 * j) : of_moved[i][j];
    if (linear)
      for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j)
          grad.linear[9 * n + 3 * i + j] = g.to_image[0][i] * of_moved[0][j] + g.to_image[1][i] * of_moved[1][j];
    g_k = (g.dot(of_image[0], g.to_image[0]) + g.dot(of_image[1], g.to_image[1])) / g.k;
    g_u -= g.k * g.dot(of_image[0], m + 8), g_v -= g.k * g.dot(of_image[1], m + 8);
  }
  *grad.focal += g_k / g.depth + g.u * of.mx + g.v * of.my;
  grad.centre[0] += of.mx, grad.centre[1] += of.my;
  const S g_x = g_u / g.depth, g_y = g_v / g.depth, g_z = -(g_k * g.k + g_u * g.u + g_v * g.v) / g.depth;
  for (int axis = 0; axis < 3; ++axis) grad.mean[3 * n + axis] = m[axis] * g_x + m[4 + axis] * g_y + m[8 + axis] * g_z;
}

}  // namespace
