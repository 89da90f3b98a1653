"use strict";
// Light: one sun with a shadow map, a sky above and bounced light from below, fog at the horizon.

const common = `#version 300 es
precision highp float;
const vec3 SUN = vec3(1., .94, .84);
uniform vec3 uHorizon, uZenith, uTiles[2];
vec3 sky(vec3 ray) { return mix(uHorizon, uZenith, pow(clamp(ray.z, 0., 1.), .7)); }
// Linear light to screen: a soft shoulder, then the sRGB curve.
vec3 toScreen(vec3 c) { return pow(c * (1. + c * .15) / (1. + c * .4), vec3(1. / 2.2)); }
`;

const backgroundVertex = `${common}
uniform mat4 uUnproject;
out vec3 vRay;
void main() {
  vec2 corner = vec2(gl_VertexID == 1 ? 3. : -1., gl_VertexID == 2 ? 3. : -1.);
  vec4 far = uUnproject * vec4(corner, 1., 1.);
  vRay = far.xyz;
  gl_Position = vec4(corner, 1., 1.);
}`;

const backgroundFragment = `${common}
in vec3 vRay;
out vec4 color;
void main() { color = vec4(toScreen(sky(normalize(vRay))), 1.); }`;

// uOrigin moves the floor's quad along with the camera; uSize stretches it. uInset thins a solid.
const solidVertex = `${common}
uniform mat4 uModel, uView, uLight;
uniform vec2 uOrigin;
uniform float uSize, uInset;
layout(location = 0) in vec3 aPosition;
layout(location = 1) in vec3 aNormal;
out vec3 vWorld, vNormal, vShadow;
out vec2 vLocal;
void main() {
  vec3 local = vec3(aPosition.xy * uSize + uOrigin, aPosition.z) - uInset * aNormal;
  vec4 world = uModel * vec4(local, 1.);
  vWorld = world.xyz;
  vNormal = mat3(uModel) * aNormal;
  vLocal = local.xy;
  vShadow = (uLight * world).xyz * .5 + .5;
  gl_Position = uView * world;
}`;

const solidFragment = `${common}
uniform vec4 uColor;
uniform vec3 uEye, uSun;
uniform float uCell, uFog;
uniform int uFloor, uBalls;
uniform vec4 uBall[64];
uniform highp sampler2DShadow uShadow;
in vec3 vWorld, vNormal, vShadow;
in vec2 vLocal;
out vec4 color;

// Share of the sun that arrives: the mean of 16 comparisons, spun by pixel to blur the steps.
float sunlight(float facing) {
  if (any(lessThan(vShadow, vec3(0.))) || any(greaterThan(vShadow, vec3(1.)))) return 1.;
  float spin = 6.283 * fract(52.98 * fract(dot(gl_FragCoord.xy, vec2(.0671, .00584))));
  float lit = 0., bias = .0008 + .0022 * (1. - facing);
  for (int k = 0; k < 16; k++) {
    float angle = spin + 2.4 * float(k), radius = .0034 * sqrt((float(k) + .5) / 16.);
    vec2 at = vShadow.xy + radius * vec2(cos(angle), sin(angle));
    lit += texture(uShadow, vec3(at, vShadow.z - bias));
  }
  return lit / 16.;
}

// Share of the sky that the robot leaves visible from a point of the floor: each ball of radius r
// at distance d takes r^2 / d^2 of it, times the cosine.
float openSky(vec3 normal) {
  float hidden = 0.;
  for (int k = 0; k < uBalls; k++) {
    vec3 to = uBall[k].xyz - vWorld;
    float d2 = max(dot(to, to), uBall[k].w * uBall[k].w);
    hidden += uBall[k].w * uBall[k].w * max(dot(to, normal), 0.) / (d2 * sqrt(d2));
  }
  return 1. / (1. + 1.6 * hidden);
}

// Checkers averaged over the pixel's footprint, so that the far floor does not flicker.
float checkers(vec2 p) {
  vec2 w = max(abs(dFdx(p)), abs(dFdy(p))) + .001;
  vec2 i = 2. * (abs(fract((p - .5 * w) * .5) - .5) - abs(fract((p + .5 * w) * .5) - .5)) / w;
  return .5 - .5 * i.x * i.y;
}

void main() {
  vec3 normal = normalize(vNormal), toEye = uEye - vWorld;
  float distance = length(toEye);
  toEye /= distance;
  vec3 base = pow(uColor.rgb, vec3(2.2));
  float ambient = 1., shine = .22;
  if (uFloor == 1) {
    base = mix(uTiles[0], uTiles[1], checkers(vLocal / uCell));
    ambient = openSky(normal);
    shine = 0.;
  }
  float facing = max(dot(normal, uSun), 0.);
  float sun = facing * (facing > 0. ? sunlight(facing) : 0.);
  vec3 fill = mix(vec3(.30, .31, .33), vec3(.50, .60, .74), .5 + .5 * normal.z) * ambient;
  vec3 halfway = normalize(uSun + toEye);
  float gloss = pow(max(dot(normal, halfway), 0.), 48.) * sun;
  float rim = pow(1. - max(dot(normal, toEye), 0.), 4.) * .5 * shine;
  vec3 lit = base * (SUN * 2.1 * sun + fill * 1.1) + shine * gloss * SUN + rim * fill;
  // The floor dissolves into the sky of its own direction, so there is no edge to see.
  float fog = 1. - exp(-pow(distance / uFog, 2.));
  color = vec4(toScreen(mix(lit, uHorizon, fog)), uColor.a);
}`;

const depthVertex = `${common}
uniform mat4 uModel, uLight;
layout(location = 0) in vec3 aPosition;
void main() { gl_Position = uLight * uModel * vec4(aPosition, 1.); }`;

const depthFragment = `${common}
void main() {}`;
