//! The program as a tool beside a running server: what is pushed is found again, in every form of output.

use std::process::Output;

use crate::support::server::program;
use crate::support::{Home, Server};

fn promtool(args: &[&str]) -> Output {
    let all: Vec<&str> = ["promtool"].iter().chain(args).copied().collect();
    program(&all).stdout(std::process::Stdio::piped()).output().expect("the program starts")
}

/// Runs the tool, which must succeed; what it prints.
fn succeeds(args: &[&str]) -> String {
    let out = promtool(args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("it prints text")
}

/// Runs the tool, which must fail; what it says.
fn fails(args: &[&str]) -> String {
    let out = promtool(args);
    assert_eq!(out.status.code(), Some(1), "{args:?}: {}", String::from_utf8_lossy(&out.stdout));
    String::from_utf8(out.stderr).expect("it prints text")
}

#[test]
fn what_is_pushed_is_found() {
    let home = Home::new("tool", "global:\n  scrape_interval: 1s\n");
    let server = Server::start(&home, &["--web.enable-remote-write-receiver"]);
    let url = format!("http://127.0.0.1:{}", server.port);
    home.write(
        "metrics.txt",
        "# HELP pushed Pushed.\n# TYPE pushed gauge\npushed{a=\"1\"} 1.5\npushed{a=\"2\",job=\"own\"} 1e21\n\
         # TYPE took histogram\ntook_bucket{le=\"1\"} 2\ntook_bucket{le=\"+Inf\"} 3\ntook_sum 4\ntook_count 3\n",
    );
    let file = home.path("metrics.txt").display().to_string();
    let said = succeeds(&["push", "metrics", "--label=job=tool", &url, &file]);
    assert_eq!(said, format!("Parsing metrics file {file}\n  SUCCESS: metrics file {file} pushed to remote write.\n"));

    let printed = succeeds(&["query", "instant", &url, "sort(pushed) * 2"]);
    let lines: Vec<&str> = printed.lines().map(|line| line.split(" @[").next().unwrap_or("")).collect();
    assert_eq!(
        lines,
        ["{a=\"1\", job=\"tool\"} => 3", "{a=\"2\", exported_job=\"own\", job=\"tool\"} => 2000000000000000000000"]
    );
    let json = succeeds(&["query", "-o", "json", "instant", "--time=5", &url, "vector(1)"]);
    assert_eq!(json, "[{\"metric\":{},\"value\":[5,\"1\"]}]\n");
    assert_eq!(
        succeeds(&["query", "range", "--start=10", "--end=20", "--step=10s", &url, "vector(time())"]),
        "{} =>\n10 @[10]\n20 @[20]\n"
    );
    assert_eq!(
        succeeds(&["query", "series", "--match=pushed{a=\"1\"}", &url]),
        "{__name__=\"pushed\", a=\"1\", job=\"tool\"}\n"
    );
    assert_eq!(succeeds(&["query", "labels", &url, "a"]), "1\n2\n");
    assert_eq!(
        succeeds(&["query", "labels", "--match=took_bucket", "--format=json", &url, "le"]),
        "[\"+Inf\",\"1\"]\n"
    );
    let usage = succeeds(&["query", "analyze", &format!("--server={url}"), "--type=histogram", "--match=took_bucket"]);
    assert!(usage.contains("Aggregated bucket stats"), "{usage}");

    assert!(fails(&["query", "instant", &url, "up("]).starts_with("query error: bad_data: invalid parameter"));
    assert!(fails(&["query", "series", "--match={", &url]).starts_with("query error: bad_data: "));
    home.write("bad.txt", "a b c\n");
    let bad = home.path("bad.txt").display().to_string();
    let said = fails(&["push", "metrics", &url, &bad]);
    assert!(said.starts_with("  FAILED: text format parsing error in line 1"), "{said}");
}

#[test]
fn debug_information_is_gathered_into_an_archive() {
    let home = Home::new("tool-debug", "global:\n  scrape_interval: 1s\n");
    let server = Server::start(&home, &[]);
    let url = format!("http://127.0.0.1:{}", server.port);
    let folder = home.path("");
    let out = program(&["promtool", "debug", "all", &url])
        .current_dir(&folder)
        .stdout(std::process::Stdio::piped())
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success() && said.contains("not there (HTTP status 501)"), "{said}");
    let list = std::process::Command::new("tar").arg("-tzf").arg(home.path("debug.tar.gz")).output();
    assert_eq!(String::from_utf8_lossy(&list.expect("tar is installed").stdout), "metrics.txt\n");
}
