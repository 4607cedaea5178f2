// TensorFlow Playground's algorithm from the facts in docs/papers/playground.md, written plainly: neurons and links as objects,
// one sample after the other. Reads a job as JSON from standard input, writes processor seconds per epoch and some losses to standard output.
"use strict";

const ACTIVATIONS = {
  tanh: { value: Math.tanh, slope: (sum) => 1 - Math.tanh(sum) ** 2 },
  relu: { value: (sum) => Math.max(0, sum), slope: (sum) => (sum > 0 ? 1 : 0) },
  sigmoid: { value: (sum) => 1 / (1 + Math.exp(-sum)), slope: (sum) => { const s = 1 / (1 + Math.exp(-sum)); return s * (1 - s); } },
  linear: { value: (sum) => sum, slope: () => 1 },
};

class Neuron {
  constructor(activation, bias) {
    Object.assign(this, { activation, bias, incoming: [], outgoing: [], sum: 0, value: 0, byValue: 0, bySum: 0, gradient: 0, count: 0 });
  }
}

class Link {
  constructor(from, to, weight) {
    Object.assign(this, { from, to, weight, gradient: 0, count: 0, frozen: false });
    from.outgoing.push(this);
    to.incoming.push(this);
  }
}

/** Layers of neurons from matrices (out, in + 1), the last column the biases. */
function build(inputs, matrices, hidden, output) {
  const layers = [Array.from({ length: inputs }, () => new Neuron(null, 0))];
  matrices.forEach((matrix, place) => {
    const activation = ACTIVATIONS[place === matrices.length - 1 ? output : hidden];
    layers.push(matrix.map((row) => {
      const neuron = new Neuron(activation, row[row.length - 1]);
      layers[place].forEach((from, i) => new Link(from, neuron, row[i]));
      return neuron;
    }));
  });
  return layers;
}

function forward(layers, sample) {
  layers[0].forEach((neuron, i) => { neuron.value = sample[i]; });
  for (const layer of layers.slice(1)) {
    for (const neuron of layer) {
      neuron.sum = neuron.bias;
      for (const link of neuron.incoming) neuron.sum += link.weight * link.from.value;
      neuron.value = neuron.activation.value(neuron.sum);
    }
  }
  return layers[layers.length - 1][0].value;
}

function backward(layers, target) {
  const last = layers[layers.length - 1][0];
  last.byValue = last.value - target;
  for (let place = layers.length - 1; place > 0; place--) {
    for (const neuron of layers[place]) {
      neuron.bySum = neuron.byValue * neuron.activation.slope(neuron.sum);
      neuron.gradient += neuron.bySum;
      neuron.count++;
      for (const link of neuron.incoming) {
        if (link.frozen) continue;
        link.gradient += neuron.bySum * link.from.value;
        link.count++;
      }
    }
    if (place === 1) continue;
    for (const neuron of layers[place - 1]) {
      neuron.byValue = 0;
      for (const link of neuron.outgoing) neuron.byValue += link.weight * link.to.bySum;
    }
  }
}

function update(layers, rate, regularization, strength) {
  for (const layer of layers.slice(1)) {
    for (const neuron of layer) {
      neuron.bias -= (rate * neuron.gradient) / neuron.count;
      neuron.gradient = neuron.count = 0;
      for (const link of neuron.incoming) {
        if (link.frozen) continue;
        const pull = regularization === "L1" ? Math.sign(link.weight) : regularization === "L2" ? link.weight : 0;
        link.weight -= (rate / link.count) * link.gradient;
        const pulled = link.weight - rate * strength * pull;
        link.frozen = regularization === "L1" && link.weight * pulled < 0;
        link.weight = link.frozen ? 0 : pulled;
        link.gradient = link.count = 0;
      }
    }
  }
}

function loss(layers, samples, targets) {
  let sum = 0;
  samples.forEach((sample, i) => { sum += 0.5 * (forward(layers, sample) - targets[i]) ** 2; });
  return sum / samples.length;
}

function epoch(layers, job) {
  job.train.samples.forEach((sample, i) => {
    forward(layers, sample);
    backward(layers, job.train.targets[i]);
    if ((i + 1) % job.batch === 0) update(layers, job.rate, job.regularization, job.strength);
  });
  return [loss(layers, job.train.samples, job.train.targets), loss(layers, job.test.samples, job.test.targets)];
}

const job = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
const made = () => build(job.train.samples[0].length, job.matrices, job.activation, job.output);
const warm = made();
for (let i = 0; i < job.warm; i++) epoch(warm, job);
const layers = made();
let losses = [];
const begun = process.cpuUsage();
for (let i = 0; i < job.epochs; i++) {
  const found = epoch(layers, job);
  if (i + 1 === job.compared) losses = found;
}
const used = process.cpuUsage(begun);
console.log(JSON.stringify({ seconds: (used.user + used.system) / 1e6 / job.epochs, losses }));
