// Outputs of one image, as often as asked; a line after each. What each case is: see ../README.md.
import sharp from 'sharp';
import { readFile } from 'node:fs/promises';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';

const { values, positionals } = parseArgs({
  options: { case: { type: 'string' }, repeat: { type: 'string' }, pin: { type: 'string' } },
  allowPositionals: true,
});
const [file, folder] = positionals;

sharp.cache(false);
sharp.concurrency(1);

const fit = (image, side) => image.resize(side, side, { fit: 'inside' });
const jpeg = (image, side) => image.sharpen({ sigma: 0.5 }).jpeg({ quality: 80 }).toFile(`${folder}/${side}.jpeg`);

// One decode; each size from the one before, kept raw and unsharpened. The decoder shrinks as far as 1600 allows.
async function cascade(input) {
  let source = sharp(input).rotate();
  for (const side of [1600, 800, 256]) {
    const { data, info } = await fit(source, side).raw().toBuffer({ resolveWithObject: true });
    const raw = { width: info.width, height: info.height, channels: info.channels };
    source = sharp(data, { raw });
    await jpeg(source.clone(), side);
  }
}

// As its documentation shows it: one pipeline, cloned. Each clone decodes, and shrinks on load for itself.
async function idiomatic(input) {
  const source = sharp(input).rotate();
  await Promise.all([1600, 800, 256].map((side) => jpeg(fit(source.clone(), side), side)));
}

const cases = {
  cascade,
  idiomatic,
  thumbnail: (input) => fit(sharp(input).rotate(), 256).jpeg({ quality: 80 }).toFile(`${folder}/256.jpeg`),
  lossless: (input) => fit(sharp(input).rotate(), 256).png().toFile(`${folder}/256.png`),
};

if (!cases[values.case]) {
  console.error(`there is no case ${values.case}`);
  process.exit(1);
}
for (let count = 0; count < Number(values.repeat); count += 1) {
  const started = performance.now();
  await cases[values.case](await readFile(file));
  console.log(`${file}: ${(performance.now() - started).toFixed(1)} ms`);
}
