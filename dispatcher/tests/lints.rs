//! The lint list that is shipped for crates with handlers catches what is planted, and nothing else.

use std::path::Path;
use std::process::Command;

/// A line of a handler, and whether the list must object.
const LINES: &[(&str, bool)] = &[
    ("println!(\"seen before the commit\");", true),
    ("eprintln!(\"so is this\");", true),
    ("let _ = dbg!(1);", true),
    ("let _ = std::time::Instant::now();", true),
    ("let _ = std::time::SystemTime::now();", true),
    ("let _ = std::collections::hash_map::RandomState::new();", true),
    ("let _ = std::fs::write(\"a\", \"b\");", true),
    ("let _ = std::fs::File::create(\"a\");", true),
    ("let _ = std::fs::read_to_string(\"a\");", true),
    ("let _ = std::net::TcpStream::connect(\"127.0.0.1:1\");", true),
    ("let _ = std::process::Command::new(\"a\").spawn();", true),
    ("std::thread::sleep(std::time::Duration::ZERO);", true),
    ("let _ = std::sync::Mutex::new(1).lock();", true),
    ("let _ = std::io::Write::flush(&mut std::io::stdout());", true),
    ("let _ = format!(\"{}\", 6 * 7);", false),
    ("let _ = std::collections::BTreeMap::<u32, u32>::new();", false),
    ("let _ = std::time::Duration::from_secs(1).as_secs();", false),
    ("let _ = std::sync::atomic::AtomicU64::new(1);", false),
];

#[test]
fn raw_input_output_clocks_and_chance_are_caught() {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("lints");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let text = std::fs::read_to_string(list.join("clippy.toml")).unwrap();
    for entry in text.lines().filter(|line| line.contains("path =")) {
        let replaced =
            ["use `", "use a", "use the", "seed", "irrevocably", "make it", "stop the", "read it", "open it"];
        assert!(entry.contains("reason = \"") && replaced.iter().any(|word| entry.contains(word)), "{entry}");
    }
    if !Command::new(&cargo).args(["clippy", "--version"]).output().is_ok_and(|output| output.status.success()) {
        eprintln!("this toolchain has no clippy, so the list was only read");
        return;
    }
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("handlers");
    std::fs::create_dir_all(package.join("src")).unwrap();
    let manifest = "[package]\nname = \"handlers\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n";
    std::fs::write(package.join("Cargo.toml"), manifest).unwrap();
    let mut source = String::from("pub fn handler() {\n");
    LINES.iter().for_each(|(line, _)| source.extend([*line, "\n"]));
    source.push_str("}\n");
    std::fs::write(package.join("src/lib.rs"), &source).unwrap();
    let output = Command::new(cargo)
        .args(["clippy", "--offline", "--message-format", "short"])
        .current_dir(&package)
        .env("CLIPPY_CONF_DIR", &list)
        // The lints of the workspace that is being tested do not apply.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("CARGO_TARGET_DIR", package.join("target"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    for (number, (line, planted)) in LINES.iter().enumerate() {
        let caught = said.lines().any(|said| {
            said.starts_with(&format!("src/lib.rs:{}:", number + 2)) && said.contains("use of a disallowed")
        });
        assert_eq!(caught, *planted, "{line}\n{said}");
    }
}
