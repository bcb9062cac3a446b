// Times llama.cpp's CPU backend (through node-llama-cpp) on one GGUF file: prompt and generation tokens per second.
// It must not be needed by any test: it is run by hand, see README.md beside it.
//
//   node bench.mjs MODEL.gguf [--threads 2] [--pp 512] [--tg 64] [--reps 3]
import { getLlama } from "node-llama-cpp";

const args = process.argv.slice(2);
const path = args[0];
const option = (name, fallback) => {
    const at = args.indexOf(`--${name}`);
    return at < 0 ? fallback : Number(args[at + 1]);
};
if (path == null) {
    console.error("usage: node bench.mjs MODEL.gguf [--threads N] [--pp N] [--tg N] [--reps N]");
    process.exit(2);
}
const threads = option("threads", 2);
const pp = option("pp", 512);
const tg = option("tg", 64);
const reps = option("reps", 3);

const llama = await getLlama({ gpu: false, maxThreads: threads, build: "never" });
const model = await llama.loadModel({ modelPath: path, gpuLayers: 0, useMmap: option("mmap", 1) === 1 });
const context = await model.createContext({
    contextSize: pp + tg + 64,
    batchSize: Math.max(pp, 512),
    threads,
    flashAttention: true,
});
const sequence = context.getSequence();

// The same pseudo-random ids every time (a 32-bit LCG), all inside the vocabulary.
let state = 1;
const vocab = option("vocab", 1000);
const token = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) % vocab;
};
const seconds = async (work) => {
    const start = process.hrtime.bigint();
    await work();
    return Number(process.hrtime.bigint() - start) / 1e9;
};
// One forward pass whose last token's logits are computed (greedy argmax, no sampling chain beyond it).
const step = async (tokens) => {
    for await (const _ of sequence.evaluate(tokens, { temperature: 0, yieldEogToken: true })) break;
};
const summary = (name, count, times) => {
    const rates = times.map((t) => count / t);
    const mean = rates.reduce((a, b) => a + b, 0) / rates.length;
    const sd = Math.sqrt(rates.reduce((a, b) => a + (b - mean) ** 2, 0) / rates.length);
    console.log(`${name.padEnd(8)} ${mean.toFixed(2)} +- ${sd.toFixed(2)} tokens/s (best ${Math.max(...rates).toFixed(2)})`);
};

console.log(`${path}: ${threads} threads, ${llama.cpuMathCores} math cores, llama.cpp ${llama.llamaCppRelease?.release}`);
await step([token()]);
const prompt = [];
const generation = [];
for (let rep = 0; rep < reps + 1; rep++) {
    await sequence.clearHistory();
    const tokens = Array.from({ length: pp }, token);
    const prompt_s = await seconds(() => step(tokens));
    await sequence.clearHistory();
    const generation_s = await seconds(async () => {
        for (let i = 0; i < tg; i++) await step([token()]);
    });
    if (rep > 0) {
        prompt.push(prompt_s);
        generation.push(generation_s);
    }
}
summary(`pp${pp}`, pp, prompt);
summary(`tg${tg}`, tg, generation);
process.exit(0);
