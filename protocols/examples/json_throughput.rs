//! How fast one core checks, merges and rewrites JSON, against the tree that most gateways build.
//!
//! ```text
//! cargo run --release -p annulus-protocols --example json_throughput
//! ```

use annulus_protocols::json::{Answer, Rules, Shape, canonical, gather, merge, validate};
use std::hint::black_box;
use std::time::Instant;

/// A page of products as a shop's backend would answer it.
fn products(bytes: usize, seed: u64) -> String {
    let mut text = format!("{{\"page\":{seed},\"next\":null,\"products\":[");
    let mut id = 10_000 + seed * 1000;
    while text.len() < bytes {
        if !text.ends_with('[') {
            text.push(',');
        }
        text.push_str(&format!(
            "{{\"id\":{id},\"sku\":\"SKU-{id:08}\",\"name\":\"Waterproof hiking boots, size {}\",\"price\":{{\"amount\":{}.{:02},\
             \"currency\":\"EUR\"}},\"stock\":{},\"available\":{},\"tags\":[\"outdoor\",\"shoes\",\"new in\"],\
             \"rating\":{{\"average\":4.{},\"count\":{}}},\"description\":\"Light, robust and dry: for long days on bad \
             paths. \\\"Best of the year\\\".\",\"url\":\"https://shop.example.com/p/{id}?ref=list&page=1\"}}",
            36 + id % 12, 40 + id % 90, id % 100, id % 57, !id.is_multiple_of(3), id % 10, id % 4000,
        ));
        id += 1;
    }
    text.push_str("],\"total\":1234}");
    text
}

/// Prints gigabytes of input per second: the best of several rounds, since others use the machine too.
fn measure(what: &str, bytes: usize, mut work: impl FnMut()) -> f64 {
    let repeats = (20_000_000 / bytes).max(1);
    let best = (0..15)
        .map(|_| {
            let started = Instant::now();
            (0..repeats).for_each(|_| work());
            started.elapsed().as_secs_f64()
        })
        .fold(f64::MAX, f64::min);
    let gigabytes = (bytes * repeats) as f64 / best / 1e9;
    println!("{what:>44}: {gigabytes:6.2} GB/s");
    gigabytes
}

fn main() {
    let body = products(100_000, 1);
    let tree = serde_json::from_str::<serde_json::Value>(&body).expect("good");
    for (what, text) in [
        ("validate, 100 KB", &body),
        ("validate, 1 KB", &products(1000, 1)),
        (
            "validate, a chat message",
            &String::from("{\"id\":7,\"publish\":{\"channel\":\"room:1\",\"data\":{\"a\":1}}}"),
        ),
        ("validate, indented", &serde_json::to_string_pretty(&tree).expect("good")),
        ("validate, numbers", &format!("[{}1]", "12.75,-3.5e3,1024,0,".repeat(5000))),
    ] {
        measure(what, text.len(), || {
            black_box(validate(black_box(text.as_bytes()))).expect("good");
        });
    }
    merges();
}

/// Six answers become one, as an endpoint with six backends does it.
fn merges() {
    let bodies: Vec<String> = (0..6).map(|seed| products(100_000, seed)).collect();
    let bytes = bodies.iter().map(String::len).sum();
    let compile =
        |rules: &dyn Fn(usize) -> Rules| (0..6).map(|index| Shape::compile(&rules(index))).collect::<Vec<_>>();
    let group = |index| Some(format!("backend{index}"));
    let grouped = compile(&|index| Rules { group: group(index), ..Rules::default() });
    let paths = ["page", "total", "next"].map(str::to_owned).to_vec();
    let allowed = compile(&|index| Rules { group: group(index), allow: paths.clone(), ..Rules::default() });
    let plain = compile(&|_| Rules::default());

    let mut out = Vec::new();
    let mut ours = Vec::new();
    for (what, shapes) in [("group", &grouped), ("allow 3 paths", &allowed), ("root merge", &plain)] {
        ours.push(measure(&format!("validate, {what}, 6 x 100 KB"), bytes, || {
            out.clear();
            merge(&answers(black_box(&bodies), shapes), &mut out);
            black_box(&out);
        }));
    }
    measure("validate, group, gather", bytes, || {
        black_box(gather(&answers(black_box(&bodies), &grouped)));
    });
    measure("merge group alone", bytes, || {
        out.clear();
        let answers: Vec<_> =
            bodies.iter().zip(&grouped).map(|(body, shape)| shape.apply(body.as_bytes()).expect("an object")).collect();
        merge(black_box(&answers), &mut out);
        black_box(&out);
    });
    let body = &bodies[0];
    measure("canonical, 100 KB", body.len(), || {
        out.clear();
        canonical(black_box(body.as_bytes()), &mut out);
        black_box(&out);
    });
    let theirs = measure("serde_json::Value, group, 6 x 100 KB", bytes, || {
        let mut merged = serde_json::Map::new();
        for (index, body) in black_box(&bodies).iter().enumerate() {
            merged.insert(format!("backend{index}"), serde_json::from_slice(body.as_bytes()).expect("good"));
        }
        black_box(serde_json::to_vec(&merged).expect("good"));
    });
    println!("{:>44}: {:6.1} times", "group against serde_json::Value", ours[0] / theirs);
}

fn answers<'a>(bodies: &'a [String], shapes: &'a [Shape]) -> Vec<Answer<'a>> {
    let answer = |(body, shape): (&'a String, &'a Shape)| {
        validate(body.as_bytes()).expect("good");
        shape.apply(body.as_bytes()).expect("an object")
    };
    bodies.iter().zip(shapes).map(answer).collect()
}
