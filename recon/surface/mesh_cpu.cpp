// Meshes on the CPU: the density that they are cut from, which pixels their triangles cover and which of them is the
// nearest there, and what pulls at their outlines.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <vector>

namespace {

struct Box {  // pixels first … last of rows upper … lower; none where one is past the other
  int64_t first, last, upper, lower;
};

// The pixels whose centres may lie in a triangle with these corners.
Box box_of(std::initializer_list<float> x, std::initializer_list<float> y, int64_t height, int64_t width) {
  const float left = std::min(x), right = std::max(x), top = std::min(y), bottom = std::max(y);
  if (right < 0 || bottom < 0 || left > width || top > height) return {0, -1, 0, -1};
  return {std::max<int64_t>(0, std::ceil(left - 0.5f)), std::min<int64_t>(width - 1, std::floor(right - 0.5f)),
          std::max<int64_t>(0, std::ceil(top - 0.5f)), std::min<int64_t>(height - 1, std::floor(bottom - 0.5f))};
}

}  // namespace

// Marks every pixel whose centre lies in one of the triangles [T, 3, 2] (pixels); out: [H, W] bytes, zero at the start.
extern "C" void cover_triangles(int64_t triangles, int64_t height, int64_t width, const float* corner, uint8_t* out) {
  for (int64_t k = 0; k < triangles; ++k) {
    const float *p = corner + 6 * k, x0 = p[0], y0 = p[1], x1 = p[2], y1 = p[3], x2 = p[4], y2 = p[5];
    const float area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0);
    if (!std::isfinite(area) || area == 0) continue;
    const float sign = area > 0 ? 1.0f : -1.0f;
    const Box box = box_of({x0, x1, x2}, {y0, y1, y2}, height, width);
    for (int64_t y = box.upper; y <= box.lower; ++y)
      for (int64_t x = box.first; x <= box.last; ++x) {
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
    const Box box = box_of({p[0], p[3], p[6]}, {p[1], p[4], p[7]}, height, width);
    for (int64_t y = box.upper; y <= box.lower; ++y)
      for (int64_t x = box.first; x <= box.last; ++x) {
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

// Adds opacity * exp(-square / 2) of each Gaussian to the voxels first <= voxel < last. mean: [N, 3]; sharp: inverse
// covariances [N, 9]; first, last: [N, 3]; voxel (0, 0, 0) stands at low [3]; volume: [X, Y, Z]. A row runs outwards from
// its densest voxel, where each value is the last times a ratio that shrinks by a constant factor.
extern "C" void density_volume(int64_t count, const double* mean, const double* sharp, const float* opacity,
                               const int64_t* first, const int64_t* last, const double* low, double h,
                               const int64_t* shape, float* volume) {
  constexpr double kFaint = 80;  // largest square that is worth a voxel
  for (int64_t n = 0; n < count; ++n) {
    const double *m = mean + 3 * n, *s = sharp + 9 * n;
    const int64_t *from = first + 3 * n, *to = last + 3 * n, length = to[2] - from[2];
    if (length <= 0) continue;
    const double z0 = low[2] + from[2] * h - m[2], shrink = std::exp(-s[8] * h * h);
    for (int64_t i = from[0]; i < to[0]; ++i)
      for (int64_t j = from[1]; j < to[1]; ++j) {
        const double x = low[0] + i * h - m[0], y = low[1] + j * h - m[1], b = s[2] * x + s[5] * y;
        const double wanted = std::round((-b / s[8] - z0) / h);
        const int64_t middle = static_cast<int64_t>(std::min(std::max(wanted, 0.0), static_cast<double>(length - 1)));
        const double z = z0 + middle * h;
        const double square = s[0] * x * x + s[4] * y * y + 2 * s[1] * x * y + 2 * b * z + s[8] * z * z;
        if (!(square < kFaint)) continue;
        float* row = volume + (i * shape[1] + j) * shape[2] + from[2];
        const double value = opacity[n] * std::exp(-0.5 * square), slope = s[8] * z + b;
        double up = value, ratio = std::exp(-h * (slope + 0.5 * s[8] * h));
        for (int64_t k = middle; k < length; ++k, up *= ratio, ratio *= shrink) row[k] += static_cast<float>(up);
        ratio = std::exp(h * (slope - 0.5 * s[8] * h));
        double down = value * ratio;
        for (int64_t k = middle - 1; k >= 0; --k) row[k] += static_cast<float>(down), ratio *= shrink, down *= ratio;
      }
  }
}

namespace {

struct Picture {  // float [height, width]
  const float* value;
  int64_t height, width;
  double nearest(double u, double v) const {  // 0 outside
    const double x = std::floor(u), y = std::floor(v);
    if (!(x >= 0 && y >= 0 && x < width && y < height)) return 0;
    return value[static_cast<int64_t>(y) * width + static_cast<int64_t>(x)];
  }
  double bilinear(double u, double v) const {  // edges are repeated
    const double x = std::min(std::max(u - 0.5, 0.0), width - 1.001), y = std::min(std::max(v - 0.5, 0.0), height - 1.001);
    const int64_t i = static_cast<int64_t>(x), j = static_cast<int64_t>(y);
    const float *top = value + j * width + i, *below = top + width;
    const double right = x - i, down = y - j;
    return (top[0] * (1 - right) + top[1] * right) * (1 - down) + (below[0] * (1 - right) + below[1] * right) * down;
  }
};

}  // namespace

// One picture's part of `refine.outline_forces_reference`. size: vertices, triangles, edges, height, width. index:
// triangles [T, 3], edges [E, 2], opposite, first_face and second_face [E]. place: pixels [P, 2], depth [P], the matrix's
// first two rows [2, 3]. pictures: covered, mask. pull: [P, 3], weight: [P], both added to.
extern "C" void outline_forces(const int64_t* size, const int64_t* const* index, const double* const* place, double focal,
                               double largest, const float* const* pictures, double* pull, double* weight) {
  const double *pixel = place[0], *depth = place[1], *rotation = place[2];
  const Picture covered = {pictures[0], size[3], size[4]}, mask = {pictures[1], size[3], size[4]};
  std::vector<char> front(size[1]);
  for (int64_t t = 0; t < size[1]; ++t) {
    const int64_t* v = index[0] + 3 * t;
    const double *p = pixel + 2 * v[0], *q = pixel + 2 * v[1], *r = pixel + 2 * v[2];
    front[t] = (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]) > 0;
  }
  for (int64_t e = 0; e < size[2]; ++e) {
    const int64_t second = index[4][e];
    if (second >= 0 && front[index[3][e]] == front[second]) continue;
    const int64_t* ends = index[1] + 2 * e;
    const double *p = pixel + 2 * ends[0], *q = pixel + 2 * ends[1], *beside = pixel + 2 * index[2][e];
    const double length = std::hypot(q[0] - p[0], q[1] - p[1]), u = 0.5 * (p[0] + q[0]), v = 0.5 * (p[1] + q[1]);
    if (!(length > 1e-3)) continue;
    double normal[2] = {(q[1] - p[1]) / length, (p[0] - q[0]) / length};
    if ((beside[0] - u) * normal[0] + (beside[1] - v) * normal[1] > 0) normal[0] = -normal[0], normal[1] = -normal[1];
    if (!(covered.nearest(u + 0.8 * normal[0], v + 0.8 * normal[1]) < 0.5)) continue;
    if (!(covered.nearest(u - 0.8 * normal[0], v - 0.8 * normal[1]) > 0.5)) continue;
    const double step = std::min(std::max(mask.bilinear(u, v) - 0.5, -largest), largest) / focal;
    for (int end = 0; end < 2; ++end) {
      for (int axis = 0; axis < 3; ++axis)
        pull[3 * ends[end] + axis] += (normal[0] * rotation[axis] + normal[1] * rotation[3 + axis]) * step * depth[ends[end]];
      weight[ends[end]] += 1;
    }
  }
}
