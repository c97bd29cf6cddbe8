//! What is done to a picture that has its size: blurred, its colours changed, laid on a canvas, made opaque.
//! Everything works on samples in place where the size stays, and in pooled buffers where it does not.

use super::geometry::Geometry;
use super::pixels::{Layout, Pixels, Pool};
use crate::header::Orientation;
use crate::recipe::Recipe;

mod blur;

pub use blur::blur;

/// What is shown where there is nothing, when nobody said otherwise and the format has no transparency.
const WHITE: [u8; 3] = [255; 3];

/// The recipe's own turns and flips as one orientation.
pub fn turns(recipe: &Recipe) -> Orientation {
    let turned = match recipe.quarter_turns % 4 {
        0 => Orientation::Normal,
        1 => Orientation::Rotate90,
        2 => Orientation::Rotate180,
        _ => Orientation::Rotate270,
    };
    let flip = match recipe.flip {
        (false, false) => Orientation::Normal,
        (true, false) => Orientation::FlipH,
        (false, true) => Orientation::FlipV,
        (true, true) => Orientation::Rotate180,
    };
    turned.then(flip)
}

/// Brightness, contrast, saturation and the loss of colour, as the recipe says. A grey picture without transparency
/// becomes one of a single sample per pixel.
pub fn colors(pixels: &mut Pixels, recipe: &Recipe) {
    if recipe.brightness != 0 || recipe.contrast != 1.0 {
        let table: Vec<u8> = (0..256)
            .map(|value| {
                let around_middle = (value as f32 - 127.5) * recipe.contrast + 127.5;
                // Conversion to a byte saturates.
                (around_middle + f32::from(recipe.brightness)).round() as u8
            })
            .collect();
        each_color(pixels, |color| color.iter_mut().for_each(|sample| *sample = table[usize::from(*sample)]));
    }
    if recipe.saturation != 1.0 && !recipe.grayscale && pixels.layout != Layout::Gray {
        let factor = recipe.saturation;
        each_color(pixels, |color| {
            let grey = f32::from(luma(color));
            color.iter_mut().for_each(|sample| *sample = (grey + (f32::from(*sample) - grey) * factor).round() as u8);
        });
    }
    if recipe.grayscale {
        grayscale(pixels);
    }
}

/// Calls for the colour samples of each pixel: one or three.
fn each_color(pixels: &mut Pixels, mut change: impl FnMut(&mut [u8])) {
    match pixels.layout {
        Layout::Gray => change(&mut pixels.samples),
        Layout::Rgb => pixels.samples.as_chunks_mut::<3>().0.iter_mut().for_each(|color| change(color)),
        Layout::Rgba => pixels.samples.as_chunks_mut::<4>().0.iter_mut().for_each(|pixel| change(&mut pixel[..3])),
    }
}

/// The luma of BT.709, of samples as they are.
fn luma(color: &[u8]) -> u8 {
    let [red, green, blue] = [color[0], color[1], color[2]].map(u32::from);
    ((red * 13_933 + green * 46_871 + blue * 4_732 + 32_768) >> 16) as u8
}

fn grayscale(pixels: &mut Pixels) {
    match pixels.layout {
        Layout::Gray => {}
        Layout::Rgb => {
            let count = pixels.samples.len() / 3;
            for at in 0..count {
                pixels.samples[at] = luma(&pixels.samples[at * 3..][..3]);
            }
            pixels.samples.truncate(count);
            pixels.layout = Layout::Gray;
        }
        Layout::Rgba => {
            for pixel in pixels.samples.as_chunks_mut::<4>().0 {
                let grey = luma(pixel);
                pixel[..3].fill(grey);
            }
        }
    }
}

/// Lays the picture on the canvas that extension and padding make. What is around it is the recipe's background, else
/// transparent where `alpha` says that the format can be, else white.
pub fn place(pixels: Pixels, geometry: &Geometry, recipe: &Recipe, alpha: bool, pool: &mut Pool) -> Pixels {
    let (width, height) = geometry.canvas;
    if (width, height) == (pixels.width, pixels.height) {
        return pixels;
    }
    let around = match recipe.background {
        Some([red, green, blue]) => [red, green, blue, 255],
        None if alpha => [0; 4],
        None => [WHITE[0], WHITE[1], WHITE[2], 255],
    };
    let is_grey = around[0] == around[1] && around[1] == around[2];
    let layout = match pixels.layout {
        _ if around[3] == 0 => Layout::Rgba,
        Layout::Gray if !is_grey => Layout::Rgb,
        same => same,
    };
    let pixels = with_layout(pixels, layout, pool);
    let bytes = layout.bytes();
    let mut canvas = pool.take(width as usize * height as usize * bytes);
    canvas.chunks_exact_mut(bytes).for_each(|pixel| pixel.copy_from_slice(&around[..bytes]));
    let (canvas_row, row) = (width as usize * bytes, pixels.width as usize * bytes);
    let (left, top) = (geometry.offset.0 as usize * bytes, geometry.offset.1 as usize);
    let rows = canvas.chunks_exact_mut(canvas_row).skip(top);
    for (to, from) in rows.zip(pixels.samples.chunks_exact(row)) {
        to[left..left + row].copy_from_slice(from);
    }
    pool.give(pixels.samples);
    Pixels { width, height, layout, samples: canvas }
}

/// Lays a picture with transparency on the recipe's background, where it has one, or on white, where `alpha` says that the
/// format has no transparency.
pub fn flatten(pixels: &mut Pixels, recipe: &Recipe, alpha: bool) {
    if pixels.layout != Layout::Rgba || (alpha && recipe.background.is_none()) {
        return;
    }
    let background = recipe.background.unwrap_or(WHITE).map(u32::from);
    let count = pixels.samples.len() / 4;
    for at in 0..count {
        let pixel = &pixels.samples[at * 4..][..4];
        let opacity = u32::from(pixel[3]);
        let mut mixed = [0; 3];
        for ((mixed, &over), under) in mixed.iter_mut().zip(pixel).zip(background) {
            *mixed = ((u32::from(over) * opacity + under * (255 - opacity) + 127) / 255) as u8;
        }
        pixels.samples[at * 3..][..3].copy_from_slice(&mixed);
    }
    pixels.samples.truncate(count * 3);
    pixels.layout = Layout::Rgb;
}

/// Drops an alpha that is opaque everywhere: smaller outputs, and transparency that is only claimed costs nothing.
pub fn drop_opaque_alpha(pixels: &mut Pixels) {
    let (all, _) = pixels.samples.as_chunks::<4>();
    if pixels.layout != Layout::Rgba || all.iter().any(|pixel| pixel[3] != 255) {
        return;
    }
    let count = pixels.samples.len() / 4;
    for at in 0..count {
        pixels.samples.copy_within(at * 4..at * 4 + 3, at * 3);
    }
    pixels.samples.truncate(count * 3);
    pixels.layout = Layout::Rgb;
}

/// The same picture with more samples per pixel: grey to colour, colour to opaque. Never the other way.
pub fn with_layout(pixels: Pixels, layout: Layout, pool: &mut Pool) -> Pixels {
    if pixels.layout.bytes() >= layout.bytes() {
        return pixels;
    }
    let count = pixels.width as usize * pixels.height as usize;
    let mut samples = pool.take(count * layout.bytes());
    let from = pixels.samples.chunks_exact(pixels.layout.bytes());
    for (to, from) in samples.chunks_exact_mut(layout.bytes()).zip(from) {
        match *from {
            [grey] => to[..3].fill(grey),
            _ => to[..3].copy_from_slice(from),
        }
        if let Some(alpha) = to.get_mut(3) {
            *alpha = 255;
        }
    }
    pool.give(pixels.samples);
    Pixels { layout, samples, ..pixels }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::geometry::geometry;
    use crate::recipe::{Mode, Resize};

    fn pool() -> Pool {
        Pool::new(1 << 20)
    }

    #[test]
    fn a_recipe_turns_and_then_flips() {
        let mut recipe = Recipe::named("test");
        assert_eq!(turns(&recipe), Orientation::Normal);
        recipe.quarter_turns = 1;
        assert_eq!(turns(&recipe), Orientation::Rotate90);
        recipe.flip = (true, false);
        assert_eq!(turns(&recipe), Orientation::Transpose);
        recipe.flip = (true, true);
        assert_eq!(turns(&recipe), Orientation::Rotate270);
    }

    #[test]
    fn colours_change_and_alpha_does_not() {
        let mut recipe = Recipe::named("test");
        let mut pixels =
            Pixels { width: 2, height: 1, layout: Layout::Rgba, samples: vec![10, 100, 250, 7, 0, 0, 0, 9] };
        recipe.brightness = 10;
        colors(&mut pixels, &recipe);
        assert_eq!(pixels.samples, [20, 110, 255, 7, 10, 10, 10, 9]);
        recipe.brightness = 0;
        recipe.contrast = 2.0;
        colors(&mut pixels, &recipe);
        assert_eq!(pixels.samples, [0, 93, 255, 7, 0, 0, 0, 9]);
        recipe.contrast = 1.0;
        recipe.saturation = 0.0;
        colors(&mut pixels, &recipe);
        assert_eq!(pixels.samples, [85, 85, 85, 7, 0, 0, 0, 9]);
    }

    #[test]
    fn grey_takes_one_sample_where_nothing_shows_through() {
        let mut recipe = Recipe::named("test");
        recipe.grayscale = true;
        let mut pixels = Pixels { width: 2, height: 1, layout: Layout::Rgb, samples: vec![255, 255, 255, 0, 255, 0] };
        colors(&mut pixels, &recipe);
        assert_eq!((pixels.layout, &pixels.samples[..]), (Layout::Gray, &[255, 182][..]));
        let mut pixels = Pixels { width: 1, height: 1, layout: Layout::Rgba, samples: vec![0, 255, 0, 3] };
        colors(&mut pixels, &recipe);
        assert_eq!(pixels.samples, [182, 182, 182, 3]);
    }

    fn padded(background: Option<[u8; 3]>, layout: Layout, alpha: bool) -> Pixels {
        let mut recipe = Recipe::named("test");
        recipe.padding = [1, 0, 0, 1];
        recipe.background = background;
        let geometry = geometry((1, 1), &recipe).unwrap();
        let pixels = Pixels { width: 1, height: 1, layout, samples: vec![5; layout.bytes()] };
        let mut placed = place(pixels, &geometry, &recipe, alpha, &mut pool());
        flatten(&mut placed, &recipe, alpha);
        placed
    }

    #[test]
    fn padding_shows_background_nothing_or_white() {
        let placed = padded(Some([1, 2, 3]), Layout::Gray, true);
        assert_eq!((placed.layout, &placed.samples[..]), (Layout::Rgb, &[1, 2, 3, 1, 2, 3, 1, 2, 3, 5, 5, 5][..]));
        let placed = padded(None, Layout::Gray, false);
        assert_eq!((placed.layout, &placed.samples[..]), (Layout::Gray, &[255, 255, 255, 5][..]));
        let placed = padded(None, Layout::Rgb, true);
        assert_eq!((placed.layout, &placed.samples[8..]), (Layout::Rgba, &[0, 0, 0, 0, 5, 5, 5, 255][..]));
        let placed = padded(Some([0, 0, 0]), Layout::Rgba, true);
        assert_eq!((placed.layout, placed.samples.len()), (Layout::Rgb, 12));
    }

    #[test]
    fn extension_lays_the_picture_in_the_middle() {
        let mut recipe = Recipe::named("test");
        recipe.resize = Some(Resize { mode: Mode::Fit, width: 3, height: 3, enlarge: false, extend: true });
        let geometry = geometry((1, 1), &recipe).unwrap();
        let pixels = Pixels { width: 1, height: 1, layout: Layout::Gray, samples: vec![5] };
        let placed = place(pixels, &geometry, &recipe, false, &mut pool());
        // (2 + 1) / 2 is rounded to the even 2, as imgproxy rounds it.
        assert_eq!(placed.samples, [255, 255, 255, 255, 255, 255, 255, 255, 5]);
    }

    #[test]
    fn flattening_mixes_by_opacity() {
        let recipe = Recipe::named("test");
        let mut pixels = Pixels {
            width: 3,
            height: 1,
            layout: Layout::Rgba,
            samples: vec![10, 20, 30, 255, 10, 20, 30, 0, 0, 0, 0, 128],
        };
        let mut kept = pixels.clone();
        flatten(&mut kept, &recipe, true);
        assert_eq!(kept, pixels);
        flatten(&mut pixels, &recipe, false);
        assert_eq!(pixels.samples, [10, 20, 30, 255, 255, 255, 127, 127, 127]);
    }

    #[test]
    fn an_alpha_that_hides_nothing_is_dropped() {
        let mut pixels =
            Pixels { width: 2, height: 1, layout: Layout::Rgba, samples: vec![1, 2, 3, 255, 4, 5, 6, 255] };
        drop_opaque_alpha(&mut pixels);
        assert_eq!((pixels.layout, &pixels.samples[..]), (Layout::Rgb, &[1, 2, 3, 4, 5, 6][..]));
        let mut pixels = Pixels { width: 1, height: 1, layout: Layout::Rgba, samples: vec![1, 2, 3, 254] };
        drop_opaque_alpha(&mut pixels);
        assert_eq!(pixels.layout, Layout::Rgba);
    }
}
