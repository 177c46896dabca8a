"""GLSL 3.30 of the GL engine: programs for colour, for depth and normals, and for averaging samples.

Vertices arrive posed (world space). Each draw call is one frame; its instances are the views, each placed in its
own tile of the atlas. Clip y points down the image, so the bytes read back start with the top row.
"""

from __future__ import annotations

MAX_VIEWS = 64  # instances per draw: 4 vec4 each, well inside every driver's uniform space

PLACEMENT = f"""
uniform mat4 clip_from_world[{MAX_VIEWS}];
uniform vec4 tile;      // scale x, scale y, offset y, step x: one row of tiles per frame
void place(vec4 clip) {{
    // A tile is a viewport of its own: nothing may be drawn over its neighbours.
    gl_ClipDistance[0] = clip.w + clip.x;
    gl_ClipDistance[1] = clip.w - clip.x;
    gl_ClipDistance[2] = clip.w + clip.y;
    gl_ClipDistance[3] = clip.w - clip.y;
    float offset_x = tile.x - 1.0 + tile.w * float(gl_InstanceID);
    gl_Position = vec4(clip.x * tile.x + clip.w * offset_x, clip.y * tile.y + clip.w * tile.z, clip.zw);
}}
"""

COLOUR_VERTEX = f"""
#version 330
in vec3 in_position;
in vec3 in_normal;
in vec4 in_uv;          // of the base colour, of the emission
in vec4 in_colour;
in vec4 in_emission;    // rgb, and 1 where light applies
out vec3 normal;
out vec4 uv;
out vec4 colour;
out vec4 emission;
out vec3 to_eye;
uniform vec3 eyes[{MAX_VIEWS}];
{PLACEMENT}
void main() {{
    normal = in_normal;
    uv = in_uv;
    colour = in_colour;
    emission = in_emission;
    to_eye = eyes[gl_InstanceID] - in_position;
    place(clip_from_world[gl_InstanceID] * vec4(in_position, 1.0));
}}
"""

FOLD = """
vec2 fold(vec2 uv, vec2 mirrored) { return mix(uv, abs(mod(uv - 1.0, 2.0) - 1.0), mirrored); }
"""

COLOUR_FRAGMENT = f"""
#version 330
in vec3 normal;
in vec4 uv;
in vec4 colour;
in vec4 emission;
in vec3 to_eye;
layout(location = 0) out vec4 pixel;
layout(location = 1) out float place;   // depth, where the framebuffer keeps it
uniform sampler2D base_texture;
uniform sampler2D emissive_texture;
uniform vec2 textured;       // 1 where there is a base colour texture, an emissive one
uniform vec4 mirrored;       // 1 where a texture's coordinate runs back and forth
uniform float cutoff;        // alpha below it is dropped; negative keeps everything
uniform float ceiling;       // so is alpha from here on
uniform bool blended;
uniform bool peeled;         // only the nearest layer behind the one before, in front of what is solid
uniform sampler2D before;
uniform sampler2D solid;
uniform mat3 colour_matrix;  // on linear RGB
uniform vec3 key_direction;  // towards the light, unit
uniform vec3 key_colour;
uniform vec3 sky;
uniform vec3 ground;
uniform float wrap;
{FOLD}
void main() {{
    vec4 base = colour;
    if (textured.x > 0.0) base *= texture(base_texture, fold(uv.xy, mirrored.xy));
    if (base.a < cutoff || base.a >= ceiling) discard;
    if (peeled) {{
        ivec2 here = ivec2(gl_FragCoord.xy);
        if (gl_FragCoord.z <= texelFetch(before, here, 0).r) discard;
        if (gl_FragCoord.z >= texelFetch(solid, here, 0).r) discard;
    }}
    place = gl_FragCoord.z;
    vec3 albedo = clamp(colour_matrix * base.rgb, 0.0, 1.0);
    vec3 n = normalize(normal);
    if (dot(n, to_eye) < 0.0) n = -n;
    vec3 ambient = mix(ground, sky, 0.5 + 0.5 * n.z);
    float facing = max((dot(n, key_direction) + wrap) / (1.0 + wrap), 0.0);
    vec3 lit = albedo * (ambient + key_colour * facing);
    vec3 glow = emission.rgb;
    if (textured.y > 0.0) glow *= texture(emissive_texture, fold(uv.zw, mirrored.zw)).rgb;
    vec3 shown = mix(albedo, lit, emission.a) + glow;
    float alpha = blended ? base.a : 1.0;
    pixel = vec4(clamp(shown, 0.0, 1.0) * alpha, alpha);
}}
"""

GEOMETRY_VERTEX = f"""
#version 330
in vec3 in_position;
in vec3 in_normal;
in vec4 in_uv;
in vec4 in_colour;
out vec3 normal;
out vec4 uv;
out float alpha;
out vec3 to_eye;
out float planar_depth;
uniform vec3 eyes[{MAX_VIEWS}];
{PLACEMENT}
void main() {{
    normal = in_normal;
    uv = in_uv;
    alpha = in_colour.a;
    to_eye = eyes[gl_InstanceID] - in_position;
    vec4 clip = clip_from_world[gl_InstanceID] * vec4(in_position, 1.0);
    planar_depth = clip.w;
    place(clip);
}}
"""

GEOMETRY_FRAGMENT = f"""
#version 330
in vec3 normal;
in vec4 uv;
in float alpha;
in vec3 to_eye;
in float planar_depth;
out vec4 pixel;
uniform sampler2D base_texture;
uniform vec2 textured;
uniform vec4 mirrored;
uniform float cutoff;
{FOLD}
void main() {{
    float opacity = alpha;
    if (textured.x > 0.0) opacity *= texture(base_texture, fold(uv.xy, mirrored.xy)).a;
    if (opacity < cutoff) discard;
    vec3 n = normalize(normal);
    if (dot(n, to_eye) < 0.0) n = -n;
    pixel = vec4(n, planar_depth);
}}
"""

AVERAGE_VERTEX = """
#version 330
void main() {
    // One triangle that covers the whole target.
    gl_Position = vec4(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0, 0.0, 1.0);
}
"""

COPY_FRAGMENT = """
#version 330
out vec4 pixel;
uniform sampler2D samples;
void main() { pixel = texelFetch(samples, ivec2(gl_FragCoord.xy), 0); }
"""


def average_fragment(side: int, height: int, width: int) -> str:
    """The mean of a pixel's samples, `side` along each axis, in tiles of height x width pixels.

    With an odd `side` the samples lie inside the pixel (midpoint rule); with an even one they lie on its borders and
    its centre, and those on a border count for the neighbour as well (trapezoidal rule). Both have one at the centre.
    """
    taps = side + 1 - side % 2
    terms = []
    for y in range(taps):
        for x in range(taps):
            shared = (x % side == 0) + (y % side == 0) if taps > side else 0
            terms.append(f"{0.5**shared} * texelFetch(samples, min(corner + ivec2({x}, {y}), last), 0)")
    total = "\n        + ".join(terms)
    return f"""
#version 330
out vec4 pixel;
uniform sampler2D samples;  // premultiplied; decoded to linear light by the texture unit
void main() {{
    ivec2 place = ivec2(gl_FragCoord.xy), tile = ivec2({width}, {height});
    ivec2 corner = {side} * place;
    ivec2 last = {side} * (place / tile + 1) * tile - 1;  // a tile knows nothing of its neighbours
    vec4 sum = {total};
    pixel = vec4(sum.rgb / max(sum.a, 1e-4), sum.a / {side * side}.0);
}}
"""
