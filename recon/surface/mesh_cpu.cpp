// Meshes to pixels on the CPU: which pixels triangles cover, and which triangle is the nearest there.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

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
