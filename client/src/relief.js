// @ts-check
/**
 * The 3D view: the spectrogram as a height field that flows away from the listener, cut open where the sound is now, with
 * beats and bars across it (WebGL 2, one texture, one draw call).
 */
import { palette } from "./palette.js";
import { beatsBetween, COLUMN_SAMPLES, COLUMNS, ROWS } from "./spectrum.js";

const DEPTH = 480; // columns shown: 4.8 s
const WIDTH = 224; // vertices across

const VERTEX = `#version 300 es
precision highp float;
uniform sampler2D levels;
uniform float head;      // column that is heard now, as a texture row
uniform mat4 camera;
uniform vec2 size;       // width of the near edge, and height, in the field's own units
in vec2 place;           // x: 0 low .. 1 high frequency, y: 0 newest .. 1 oldest; below 0: the foot of the cut
out float level;
out float age;
out float light;
out float foot;
out float across;
float at(vec2 p) {
  return texture(levels, vec2(p.x, (head - p.y * float(${DEPTH}) + 0.5) / float(${COLUMNS}))).r;
}
void main() {
  foot = step(place.y, -0.001);
  vec2 p = vec2(place.x, max(0.0, place.y));
  level = at(p);
  age = p.y;
  across = p.x;
  // Lit from the left and from the front: slopes that face the light are bright.
  float slope = (at(p + vec2(0.006, 0.0)) - at(p - vec2(0.006, 0.0))) * 1.6;
  float rise = (at(p - vec2(0.0, 0.006)) - at(p + vec2(0.0, 0.006))) * 1.1;
  light = 0.45 + 0.62 * dot(normalize(vec3(-slope, 0.55, rise)), normalize(vec3(-0.6, 0.8, 0.35)));
  float height = mix(pow(level, 1.6) * size.y, -0.7, foot);
  // The field widens with its distance, about as fast as perspective narrows it: it fills the stage from edge to edge.
  gl_Position = camera * vec4((p.x - 0.5) * size.x * (1.0 + 2.5 * p.y), height, -p.y * 5.2, 1.0);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
uniform sampler2D colours;
uniform vec3 background;
uniform vec3 ink;
uniform vec3 beats;      // age of the newest beat, time between two, and beats since the newest bar
uniform float bar;       // beats in a bar
in float level;
in float age;
in float light;
in float foot;
in float across;
out vec4 colour;
void main() {
  vec3 lit = texture(colours, vec2(level * 0.94 + 0.04, 0.5)).rgb;
  bool bright = background.g > 0.5;
  // On a bright ground shade darkens only half as much, or the colours would turn to mud.
  lit *= bright ? mix(light, 1.0, 0.55) : light;
  if (beats.y > 0.0) {
    float beat = (age - beats.x) / beats.y;
    float whole = round(beat);
    float wide = fwidth(beat) * 1.2 + 0.006;
    float first = step(abs(mod(whole - beats.z + 0.5, bar) - 0.5), 0.25);
    lit = mix(lit, ink, (1.0 - smoothstep(0.0, wide, abs(beat - whole))) * mix(0.14, 0.5, first) * (1.0 - foot));
  }
  // What is heard now is the bright edge of the cut; below it the field sinks into the dark.
  lit = mix(lit, ink, 0.7 * (1.0 - smoothstep(0.0, 0.004 + fwidth(age), age)) * (1.0 - smoothstep(0.0, 0.06, foot)));
  lit = mix(lit, background, 0.92 * smoothstep(0.0, 0.9, foot));
  float rim = smoothstep(0.0, 0.03, across) * smoothstep(1.0, 0.97, across);
  colour = vec4(mix(background, lit, rim * (1.0 - smoothstep(0.45, 1.0, age))), 1.0);
}`;

/** The 3D view of a canvas, whose graphics card may be taken away (a laptop that slept, a phone that is busy) and given back. */
export class Relief {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {import("./palette.js").Colours} theme
   * @param {() => void} [onChange] the graphics card was taken away, or given back
   * @throws {Error} where there is no WebGL 2
   */
  constructor(canvas, theme, onChange = () => {}) {
    const gl = canvas.getContext("webgl2", { antialias: true, powerPreference: "low-power" });
    if (!gl) throw new Error("this browser has no WebGL 2");
    this.gl = gl;
    this.theme = theme;
    this.left = new AbortController();
    /** @type {Field|null} */
    this.field = this.build(canvas);
    const { signal } = this.left;
    canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault(); // or it is never given back
      this.field = null;
      onChange();
    }, { signal });
    canvas.addEventListener("webglcontextrestored", () => {
      this.field = this.build(canvas);
      onChange();
    }, { signal });
  }

  /** @param {HTMLCanvasElement} canvas @returns {Field|null} null while there is no graphics card */
  build(canvas) {
    if (this.gl.isContextLost()) return null;
    try {
      return new Field(this.gl, canvas, this.theme);
    } catch (error) {
      if (this.gl.isContextLost()) return null; // in the middle of it
      throw error;
    }
  }

  /** Whether there is nothing to draw with at the moment. */
  get lost() {
    return this.field === null;
  }

  /** @param {import("./palette.js").Colours} theme */
  setTheme(theme) {
    this.theme = theme;
    this.field?.setTheme(theme);
  }

  /** @param {Parameters<Field["draw"]>[0]} scene */
  draw(scene) {
    this.field?.draw(scene);
  }

  close() {
    this.left.abort();
    this.field?.close();
    this.field = null;
  }
}

/** The height field and all that it keeps on the graphics card. */
class Field {
  /**
   * @param {WebGL2RenderingContext} gl
   * @param {HTMLCanvasElement} canvas
   * @param {import("./palette.js").Colours} theme
   */
  constructor(gl, canvas, theme) {
    this.canvas = canvas;
    this.gl = gl;
    this.program = this.link();
    gl.useProgram(this.program);
    /** @param {string} name */
    this.at = (name) => gl.getUniformLocation(this.program, name);
    this.moving = { head: this.at("head"), camera: this.at("camera"), size: this.at("size"), beats: this.at("beats"), bar: this.at("bar") };
    gl.uniform1i(this.at("levels"), 0);
    gl.uniform1i(this.at("colours"), 1);
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
    const rows = DEPTH / 2 + 1; // one is the cut
    const places = new Float32Array((WIDTH + 1) * (rows + 1) * 2);
    let at = 0;
    for (let z = 0; z <= rows; z++) {
      for (let x = 0; x <= WIDTH; x++) {
        places[at++] = x / WIDTH;
        places[at++] = (z - 1) / (rows - 1);
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

  /** @param {import("./palette.js").Colours} theme */
  setTheme(theme) {
    const { gl } = this;
    const bytes = palette(theme);
    gl.activeTexture(gl.TEXTURE1);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
    /** @param {number} i @returns {[number, number, number]} */
    const shade = (i) => [bytes[4 * i] / 255, bytes[4 * i + 1] / 255, bytes[4 * i + 2] / 255];
    gl.uniform3f(this.at("background"), ...shade(0));
    gl.uniform3f(this.at("ink"), ...shade(255));
    gl.clearColor(...shade(0), 1);
  }

  /** @param {Pick<import("./visualiser.js").Scene, "ring"|"position"|"now"|"sampleRate">} scene */
  draw({ ring, position, now, sampleRate }) {
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
    gl.uniform1f(this.moving.head, (position / COLUMN_SAMPLES) % COLUMNS);
    const aspect = width / Math.max(1, height);
    gl.uniform2f(this.moving.size, 2.15 * aspect, Math.min(1.05, 0.45 + 0.3 * aspect));
    const deep = DEPTH * COLUMN_SAMPLES;
    const [first, second] = beatsBetween(now, position - deep, position, sampleRate).slice(-2).reverse();
    if (first && second) {
      const step = (first.samplePos - second.samplePos) / deep;
      gl.uniform3f(this.moving.beats, (position - first.samplePos) / deep, step, first.inBar);
    } else gl.uniform3f(this.moving.beats, 0, 0, 0);
    gl.uniform1f(this.moving.bar, now?.state.beats_per_bar ?? 4);
    gl.uniformMatrix4fv(this.moving.camera, false, camera(aspect, Math.sin(position / 48000 / 9) * 0.03));
    gl.drawElements(gl.TRIANGLES, this.count, gl.UNSIGNED_INT, 0);
  }

  close() {
    this.gl.deleteProgram(this.program);
    this.gl.deleteTexture(this.levels);
    this.gl.deleteTexture(this.colours);
  }
}

/**
 * Perspective from above the listener's end of the field, swaying slowly. The field's near edge lies just above the lower
 * rim of the picture and its far one at three quarters of its height, whatever the shape of the stage.
 * @param {number} aspect
 * @param {number} sway radians
 * @returns {Float32Array} column-major 4 x 4
 */
function camera(aspect, sway) {
  const near = 0.1;
  const far = 20;
  const f = 1.5;
  const pitch = 0.5;
  const [c, s] = [Math.cos(sway), Math.sin(sway)];
  const [cp, sp] = [Math.cos(pitch), Math.sin(pitch)];
  // The eye stands 1.5 above and 0.9 before the field's near edge and looks down by `pitch`.
  const [eyeY, eyeZ] = [1.5, 0.9];
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
