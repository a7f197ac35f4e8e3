// @ts-check
/** The 3D view: the spectrogram as a height field that flows towards the listener (WebGL 2, one texture, one draw call). */
import { palette } from "./palette.js";
import { COLUMN_SAMPLES, COLUMNS, ROWS } from "./spectrum.js";

const DEPTH = 480; // columns shown: 4.8 s
const WIDTH = 192; // vertices across

const VERTEX = `#version 300 es
precision highp float;
uniform sampler2D levels;
uniform float head;      // newest column, as a texture row, and the fraction that has passed since
uniform mat4 camera;
in vec2 place;           // x: 0 low .. 1 high frequency, y: 0 newest .. 1 oldest
uniform float wide;      // of the field, in its own units
out float level;
out float age;
out float light;
float at(vec2 p) {
  return texture(levels, vec2(p.x, (head - p.y * float(${DEPTH}) + 0.5) / float(${COLUMNS}))).r;
}
void main() {
  level = at(place);
  age = place.y;
  // Lit from the left and from the front: slopes that face the light are bright.
  float slope = (at(place + vec2(0.008, 0.0)) - at(place - vec2(0.008, 0.0))) * 1.3;
  float rise = (at(place - vec2(0.0, 0.008)) - at(place + vec2(0.0, 0.008))) * 0.9;
  light = 0.78 + 0.6 * dot(normalize(vec3(-slope, 0.55, rise)), normalize(vec3(-0.6, 0.8, 0.35))) - 0.35;
  float height = pow(level, 1.7) * 0.95;
  gl_Position = camera * vec4((place.x - 0.5) * wide, height, -place.y * 5.2, 1.0);
}`;

const FRAGMENT = `#version 300 es
precision mediump float;
uniform sampler2D colours;
uniform vec3 background;
in float level;
in float age;
in float light;
out vec4 colour;
void main() {
  vec3 lit = texture(colours, vec2(level * 0.97 + 0.02, 0.5)).rgb;
  // On a bright ground shade darkens only half as much, or the colours would turn to mud.
  lit *= mix(light, 1.0, 0.5 * step(0.5, background.g));
  colour = vec4(mix(lit, background, smoothstep(0.3, 1.0, age)), 1.0);
}`;

export class Relief {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {import("./palette.js").Theme} theme
   * @throws {Error} where there is no WebGL 2
   */
  constructor(canvas, theme) {
    this.canvas = canvas;
    const gl = canvas.getContext("webgl2", { antialias: true, powerPreference: "low-power" });
    if (!gl) throw new Error("this browser has no WebGL 2");
    this.gl = gl;
    this.program = this.link();
    gl.useProgram(this.program);
    this.head = gl.getUniformLocation(this.program, "head");
    this.camera = gl.getUniformLocation(this.program, "camera");
    this.background = gl.getUniformLocation(this.program, "background");
    this.wide = gl.getUniformLocation(this.program, "wide");
    gl.uniform1i(gl.getUniformLocation(this.program, "levels"), 0);
    gl.uniform1i(gl.getUniformLocation(this.program, "colours"), 1);
    this.count = this.mesh();
    this.levels = this.texture(0, gl.LINEAR);
    // A row a column: the newest replaces one row, and nothing else is uploaded.
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.R8, ROWS, COLUMNS, 0, gl.RED, gl.UNSIGNED_BYTE, null);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.REPEAT);
    this.colours = this.texture(1, gl.LINEAR);
    gl.enable(gl.DEPTH_TEST);
    this.stored = -1; // newest column in the texture
    this.epoch = -1;
    this.setTheme(theme);
  }

  link() {
    const { gl } = this;
    const program = /** @type {WebGLProgram} */ (gl.createProgram());
    for (const [kind, source] of /** @type {[number, string][]} */ ([[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]])) {
      const shader = /** @type {WebGLShader} */ (gl.createShader(kind));
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program) ?? "shader");
    return program;
  }

  mesh() {
    const { gl } = this;
    const rows = DEPTH / 2;
    const places = new Float32Array((WIDTH + 1) * (rows + 1) * 2);
    let at = 0;
    for (let z = 0; z <= rows; z++) {
      for (let x = 0; x <= WIDTH; x++) {
        places[at++] = x / WIDTH;
        places[at++] = z / rows;
      }
    }
    const indices = new Uint32Array(WIDTH * rows * 6);
    at = 0;
    for (let z = 0; z < rows; z++) {
      for (let x = 0; x < WIDTH; x++) {
        const a = z * (WIDTH + 1) + x;
        const b = a + WIDTH + 1;
        indices.set([a, b, a + 1, a + 1, b, b + 1], at);
        at += 6;
      }
    }
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, places, gl.STATIC_DRAW);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, indices, gl.STATIC_DRAW);
    const place = gl.getAttribLocation(this.program, "place");
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, 2, gl.FLOAT, false, 0, 0);
    return indices.length;
  }

  /** @param {number} unit @param {number} filter */
  texture(unit, filter) {
    const { gl } = this;
    const texture = gl.createTexture();
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, name, filter);
    for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, name, gl.CLAMP_TO_EDGE);
    return texture;
  }

  /** @param {import("./palette.js").Theme} theme */
  setTheme(theme) {
    const { gl } = this;
    const bytes = palette(theme);
    gl.activeTexture(gl.TEXTURE1);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
    const back = [bytes[0] / 255, bytes[1] / 255, bytes[2] / 255];
    gl.uniform3f(this.background, back[0], back[1], back[2]);
    gl.clearColor(back[0], back[1], back[2], 1);
  }

  /**
   * @param {import("./spectrum.js").SpectrumRing} ring
   * @param {number} position sample clock of what is heard
   */
  draw(ring, position) {
    const { gl, canvas } = this;
    const ratio = Math.min(2, devicePixelRatio || 1);
    const width = Math.round(canvas.clientWidth * ratio);
    const height = Math.round(canvas.clientHeight * ratio);
    if (width !== canvas.width || height !== canvas.height) Object.assign(canvas, { width, height });
    gl.viewport(0, 0, width, height);
    gl.activeTexture(gl.TEXTURE0);
    if (ring.epoch !== this.epoch) {
      this.epoch = ring.epoch;
      this.stored = -1;
    }
    for (let column = Math.max(this.stored + 1, ring.latest - COLUMNS + 1); column <= ring.latest; column++) {
      const at = (column + COLUMNS) % COLUMNS;
      gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, at, ROWS, 1, gl.RED, gl.UNSIGNED_BYTE, ring.levels, at * ROWS);
    }
    this.stored = ring.latest;
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.uniform1f(this.head, (position / COLUMN_SAMPLES) % COLUMNS);
    const aspect = width / Math.max(1, height);
    gl.uniform1f(this.wide, 3.4 * Math.min(2, Math.max(0.8, aspect / 1.4)));
    gl.uniformMatrix4fv(this.camera, false, camera(aspect, Math.sin(position / 48000 / 9) * 0.14));
    gl.drawElements(gl.TRIANGLES, this.count, gl.UNSIGNED_INT, 0);
  }

  close() {
    this.gl.deleteProgram(this.program);
    this.gl.deleteTexture(this.levels);
    this.gl.deleteTexture(this.colours);
  }
}

/**
 * Perspective from above the listener's end of the field, swaying slowly.
 * @param {number} aspect
 * @param {number} sway radians
 * @returns {Float32Array} column-major 4 x 4
 */
function camera(aspect, sway) {
  const near = 0.1;
  const far = 20;
  const f = 1.45 * Math.min(1, Math.max(0.55, aspect));
  const pitch = 0.4;
  const [c, s] = [Math.cos(sway), Math.sin(sway)];
  const [cp, sp] = [Math.cos(pitch), Math.sin(pitch)];
  // The eye stands 1.35 above and 1.3 before the field's near edge and looks down by `pitch`.
  const [eyeY, eyeZ] = [1.35, 1.3];
  const view = [
    [c, 0, s, 0],
    [-s * -sp, cp, c * -sp, -eyeY * cp + eyeZ * sp],
    [-s * cp, sp, c * cp, -eyeY * sp - eyeZ * cp],
    [0, 0, 0, 1],
  ];
  const projection = [
    [f / aspect, 0, 0, 0],
    [0, f, 0, 0],
    [0, 0, (far + near) / (near - far), (2 * far * near) / (near - far)],
    [0, 0, -1, 0],
  ];
  const out = new Float32Array(16);
  for (let r = 0; r < 4; r++) {
    for (let k = 0; k < 4; k++) {
      let sum = 0;
      for (let i = 0; i < 4; i++) sum += projection[r][i] * view[i][k];
      out[k * 4 + r] = sum;
    }
  }
  return out;
}
