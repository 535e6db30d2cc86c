//! Makes the table of the user interface's files out of `ui/dist`, which is in the repository: building the server needs no Node.
//! Each file is compressed once, here, and gets its content type and its digest as the entity tag.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::{env, fs};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

fn main() {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("set by cargo")).join("../../ui/dist");
    let out = env::var("OUT_DIR").expect("set by cargo");
    println!("cargo::rerun-if-changed={}", root.display());
    let index = root.join("index.html");
    assert!(
        index.is_file(),
        "{} is missing: it is part of the repository, `npm ci && npm run build` in ui/ makes it anew",
        index.display()
    );
    let mut names: Vec<String> = Vec::new();
    for folder in ["", "assets/"] {
        for entry in fs::read_dir(root.join(folder)).expect("a readable folder") {
            let entry = entry.expect("a readable entry");
            if entry.path().is_file() {
                names.push(format!("{folder}{}", entry.file_name().to_string_lossy()));
            }
        }
    }
    names.sort();
    let mut table = String::from("&[\n");
    for (at, name) in names.iter().filter(|name| *name != "index.html").enumerate() {
        let path = root.join(name);
        println!("cargo::rerun-if-changed={}", path.display());
        let bytes = fs::read(&path).expect("a readable file");
        let packed_path = format!("{out}/{at}.gz");
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        packer.write_all(&bytes).expect("memory takes everything");
        fs::write(&packed_path, packer.finish().expect("memory takes everything")).expect("cargo's folder is writable");
        let tag: String = Sha256::digest(&bytes)[..12].iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        // A copy, so that a build of the interface under way does not take the file away.
        let plain_path = format!("{out}/{at}.plain");
        fs::write(&plain_path, &bytes).expect("cargo's folder is writable");
        writeln!(
            table,
            "    Asset {{ path: {name:?}, content_type: {:?}, tag: \"\\\"{tag}\\\"\", hashed: {}, plain: include_bytes!({plain_path:?}), packed: include_bytes!({packed_path:?}) }},",
            content_type(name),
            is_hashed(name),
        )
        .expect("memory takes everything");
    }
    table.push_str("]\n");
    fs::copy(&index, format!("{out}/index.html")).expect("cargo's folder is writable");
    println!("cargo::rerun-if-changed={}", index.display());
    fs::write(format!("{out}/assets.rs"), table).expect("cargo's folder is writable");
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("txt") => "text/plain; charset=utf-8",
        _ => panic!("ui/dist/{name} is of a kind that the server does not know"),
    }
}

/// Whether the name changes with the contents: `page-CVhNc560.js`.
fn is_hashed(name: &str) -> bool {
    let stem = name.strip_prefix("assets/").and_then(|name| name.rsplit_once('.')).map_or("", |(stem, _)| stem);
    // The hash has eight letters and may itself contain a dash.
    stem.len() > 9
        && stem.is_char_boundary(stem.len() - 9)
        && stem[stem.len() - 9..].starts_with('-')
        && !name.ends_with(".txt")
}
