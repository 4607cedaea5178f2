// The names of TensorFlow Playground's address, by which its links are known.
export const KEYS: readonly string[] = [
  "activation", "regularization", "batchSize", "dataset", "regDataset", "learningRate", "regularizationRate", "noise", "networkShape",
  "seed", "showTestData", "discretize", "percTrainData", "x", "y", "xTimesY", "xSquared", "ySquared", "cosX", "sinX", "cosY", "sinY",
  "collectStats", "tutorial", "problem", "initZero", "hideText",
];
