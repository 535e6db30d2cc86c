use proptest::prelude::*;

use super::*;

fn regex(source: &str) -> Regex {
    Regex::new(source).unwrap_or_else(|e| panic!("{source}: {e}"))
}

#[test]
fn the_whole_text_must_match() {
    let check = |source: &str, yes: &[&str], no: &[&str]| {
        let regex = regex(source);
        for text in yes {
            assert!(regex.is_match(text), "{source} should match {text:?}");
        }
        for text in no {
            assert!(!regex.is_match(text), "{source} should not match {text:?}");
        }
    };
    check("", &[""], &["a"]);
    check("a.*|b", &["a\nx", "b", "a"], &["xb", "bx", ""]);
    check(".*", &["", "a\nb", "é"], &[]);
    check(".+", &["a", "\n", "é"], &[""]);
    check("foo.+bar", &["fooxbar", "fooéébar"], &["foobar", "fooxba", "xfooxbar"]);
    check(".*foo.*bar.*", &["foobar", "xfooxbarx"], &["barfoo", "fooba"]);
    check("a.*a", &["aa", "aba"], &["a"]);
    check("a.*b.*b", &["abb", "axbxb"], &["ab"]);
    check(".+.+", &["ab", "éé"], &["a", "é", ""]);
    check(".{2,}x", &["abx", "ééxx"], &["ax"]);
    check("prefix(.*)", &["prefix", "prefix1"], &["prefi"]);
    check("foo|bar|baz", &["foo", "bar", "baz"], &["fooo", "ba", ""]);
    check("ba[rz]|qu?x", &["bar", "baz", "qux", "qx"], &["ba", "quux"]);
    check("^foo$", &["foo"], &["xfoo", "foo\n"]);
    check("foo$x", &[], &["foo", "foox"]);
    check("(?i)foo", &["foo", "FOO", "fOo"], &["fo"]);
    check("(?i)straße|k", &["STRAßE", "K", "\u{212a}"], &["strasse"]);
    check("(?i:a)b", &["Ab", "ab"], &["aB"]);
    check("(?-s).", &["a"], &["\n"]);
    check("(?m)a$\n^b", &["a\nb"], &["ab"]);
    check(r"\d+", &["12"], &["٣", ""]);
    check(r"\w", &["a", "_"], &["é"]);
    check(r"\s", &[" ", "\t", "\x0c"], &["\x0b", "\u{a0}"]);
    check(r"[[:space:]]", &["\x0b"], &["\u{a0}"]);
    check(r"\D", &["a", "٣", "\n"], &["1"]);
    check(r"[^a]", &["b", "\n", "é"], &["a", "bb"]);
    check(r"\Qa*b\E+", &["a*b", "a*bb"], &["aab"]);
    check(r"a{,5}", &["a{,5}"], &["aa"]);
    check(r"[\w-.]", &["-", ".", "a"], &["+"]);
    check(r"[]a-]", &["]", "a", "-"], &["b"]);
    check(r"\07\x41\x{1F600}", &["\x07A\u{1F600}"], &[]);
    check(r"\x{D800}", &[], &["\u{fffd}", ""]);
    check(r"[\x{D000}-\x{E000}]", &["\u{d7ff}", "\u{e000}"], &["\u{e001}"]);
    check(r"\pL\p{Greek}\PN\p{^Lu}", &["éαxα", "aαbc"], &["1αxx", "aα1x", "aαxX"]);
    check(r"\p{Letter}\p{uppercase letter}", &["aA"], &["aa"]);
    check(r"(?i)\p{Lu}", &["a", "A"], &["1"]);
    check(r"a\b.b", &["a b"], &["aab"]);
    check("{a", &["{a"], &[]);
    check("(a|b)*c|(a|ab)*c", &["abc", "c"], &["ab"]);
    check("(?:foo.*|.*bar)", &["foo1", "1bar"], &["fo", "ba"]);
}

#[test]
fn errors_are_those_of_go() {
    for (source, expected) in [
        ("(?i", "invalid or unsupported Perl syntax: `(?i`"),
        ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
        ("(?P<n", "invalid named capture: `(?P<n`"),
        ("(?P=n)", "invalid or unsupported Perl syntax: `(?P`"),
        ("(?<n>a", "missing closing ): `(?<n>a`"),
        ("(?<>a)", "invalid named capture: `(?<>`"),
        ("(?<a-b>c)", "invalid named capture: `(?<a-b>`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{2,1}", "invalid repeat count: `{2,1}`"),
        ("(a{100}){11}", "invalid repeat count: `{11}`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("a|*", "missing argument to repetition operator: `*`"),
        ("(*)", "missing argument to repetition operator: `*`"),
        ("{1}", "missing argument to repetition operator: `{1}`"),
        (")", "unexpected ): `)`"),
        ("a)b", "unexpected ): `a)b`"),
        ("(", "missing closing ): `(`"),
        ("[a", "missing closing ]: `[a`"),
        ("[]", "missing closing ]: `[]`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("[a--]", "invalid character class range: `a--`"),
        ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
        ("\\", "trailing backslash at end of expression: ``"),
        (r"\8", r"invalid escape sequence: `\8`"),
        (r"\1", r"invalid escape sequence: `\1`"),
        (r"\q", r"invalid escape sequence: `\q`"),
        (r"\é", r"invalid escape sequence: `\é`"),
        (r"\C", r"invalid escape sequence: `\C`"),
        (r"\u0041", r"invalid escape sequence: `\u`"),
        (r"[a-\d]", r"invalid escape sequence: `\d`"),
        (r"\x1", r"invalid escape sequence: `\x1`"),
        (r"\x{110000}", r"invalid escape sequence: `\x{110000`"),
        (r"\x{}", r"invalid escape sequence: `\x{}`"),
        (r"\p", r"invalid character class range: `\p`"),
        (r"\pX", r"invalid character class range: `\pX`"),
        (r"\p{Grek}", r"invalid character class range: `\p{Grek}`"),
        (r"\p{Alphabetic}", r"invalid character class range: `\p{Alphabetic}`"),
        (r"a\Qb", r"missing closing ): `^(?s:a\Qb)$`"),
        ("a???", "invalid nested repetition operator: `???`"),
    ] {
        match Regex::new(source) {
            Ok(_) => panic!("{source} compiles"),
            Err(error) => assert_eq!(error.to_string(), format!("error parsing regexp: {expected}"), "{source}"),
        }
    }
}

#[test]
fn what_go_takes_compiles() {
    for source in [
        "(?P<n>a)(?P<n>b)",
        "a{5",
        "a{00}",
        "(?i-s:a)",
        r"\_",
        r"\Q\E",
        "(?:)*",
        "^*",
        "$+",
        r"\b+",
        "(a*){1000}",
        "((a{10}){10}){10}",
        "(?U)a+?",
        r"\z",
        "[^]a]",
        "[--a]",
        "[a-b-c]",
        r"\777",
        "a(?i)b",
        "()",
        "a||b",
        "(|a)*",
    ] {
        regex(source);
    }
}

#[test]
fn shapes_are_seen() {
    let set = |source: &str| regex(source).set_matches().map(<[String]>::to_vec);
    assert_eq!(set("foo").unwrap(), ["foo"]);
    assert_eq!(set("").unwrap(), [""]);
    assert_eq!(set("b|a|b").unwrap(), ["a", "b"]);
    assert_eq!(set("(foo|ba[rz])").unwrap(), ["bar", "baz", "foo"]);
    assert_eq!(set("^(?:a|b)c?$").unwrap(), ["a", "ac", "b", "bc"]);
    assert_eq!(set("(?i)ab").unwrap(), ["AB", "Ab", "aB", "ab"]);
    assert_eq!(set("a.*"), None);
    assert!(matches!(regex(".*foo|.*bar").0.shape, Shape::Globs(_)));
    assert_eq!(set("(?i)prometheus_build_info"), None);
    assert_eq!(set(r"\d{9}"), None);
    let prefix = |source: &str| regex(source).prefix().map(str::to_owned);
    assert_eq!(prefix("foo.*").as_deref(), Some("foo"));
    assert_eq!(prefix("foo[0-9]+").as_deref(), Some("foo"));
    assert_eq!(prefix("foo").as_deref(), Some("foo"));
    assert_eq!(prefix("foo|fob"), None);
    assert_eq!(prefix("(?i)foo.*"), None);
    assert_eq!(prefix("fo*"), Some("f".to_owned()));
    assert_eq!(prefix(".*"), None);
}

#[test]
fn templates_expand_as_in_go() {
    let check = |source: &str, text: &str, template: &str, expected: Option<&str>| {
        assert_eq!(regex(source).expand(text, template).as_deref(), expected, "{source} {template}");
    };
    check("(.*)", "a\nb", "$1", Some("a\nb"));
    check("(.*):(.*)", "host:90", "$2-$1", Some("90-host"));
    check("(.*):(.*)", "host", "$1", None);
    check("(a)(b)?", "a", "[$1$2$3]", Some("[a]"));
    check("(a)", "a", "$1x${1}x", Some("ax"));
    check("(?P<n>a)|(?P<n>b)", "b", "$n ${n} $m", Some("b b "));
    check("(?<who>.+)", "me", "$$who $who_x ${who}", Some("$who  me"));
    check("a|b", "b", "$0!", Some("b!"));
    check("foo", "foo", "${", Some("${"));
    check("(a*)(a*)", "aa", "$1,$2", Some("aa,"));
    check("(a*?)(a*)", "aa", "$1,$2", Some(",aa"));
    check(".*(a)(a)|.*(a|)", "aaa", "$1$2,$3", Some("aa,"));
    check("(?U)(a*)(a*)", "aa", "$1,$2", Some(",aa"));
}

#[test]
fn nothing_an_expression_contains_is_dangerous() {
    let nested = "(a+)+".repeat(200);
    assert!(regex(&nested).is_match(&"a".repeat(5000)));
    assert!(!regex(&nested).is_match(&("a".repeat(5000) + "b")));
    assert!(regex("(x+x+)+y").is_match(&("x".repeat(10_000) + "y")));
    let deep = |n: usize| Regex::new(&("(".repeat(n) + "a" + &")".repeat(n)));
    assert!(deep(900).unwrap().is_match("a"));
    assert_eq!(deep(1100).unwrap_err().reason, "expression nests too deeply");
    assert!(deep(100_000).is_err());
    assert!(regex(&("(?:".repeat(50_000) + "a" + &")".repeat(50_000))).is_match("a"));
    assert!(Regex::new(&"(".repeat(100_000)).is_err());
    assert!(Regex::new(&"(?:a*)*".repeat(20_000)).is_ok());
    assert_eq!(Regex::new(r"(\pL{1000}\pN{1000}){1}").unwrap_err().reason, "expression too large");
    assert!(Regex::new(&"[a-z]".repeat(10_000)).is_ok());
    assert!(Regex::new(&format!("({})", vec!["abc.*"; 5_000].join("|"))).is_ok());
}

/// Expressions of the subset on which Go and Rust agree.
fn common_expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "a",
        "b",
        "ab",
        "foo",
        "é",
        ".",
        ".*",
        ".+",
        "[ab]",
        "[^a]",
        "[a-c]",
        "a?",
        "b*",
        "(a)",
        "x{2}",
        "b{1,3}",
        r"\.",
        "(?i:a)",
        "",
        "[[:digit:]]",
        "$",
        "^",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| format!("(?:{})", parts.join("|"))),
            inner.clone().prop_map(|part| format!("({part})*")),
            inner.prop_map(|part| format!("(?:{part})?")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The oracle is the engine with its own parser on the anchored text.
    #[test]
    fn agrees_with_the_rust_dialect_where_both_mean_the_same(source in common_expression(), text in "[abcfoxé1\n.]{0,6}") {
        let oracle = meta::Builder::new()
            .syntax(regex_automata::util::syntax::Config::new().dot_matches_new_line(true))
            .build(&format!("^(?:{source})$"));
        match (Regex::new(&source), oracle) {
            (Ok(regex), Ok(oracle)) => {
                let expected = oracle.is_match(&text);
                prop_assert_eq!(regex.is_match(&text), expected, "{}", &source);
                prop_assert_eq!(regex.expand(&text, "$0").is_some(), expected);
                if let Some(texts) = regex.set_matches() {
                    prop_assert_eq!(texts.contains(&text), expected);
                }
                if expected {
                    prop_assert!(text.starts_with(regex.prefix().unwrap_or("")));
                }
            }
            // Both have limits of their own; stacked repetitions are Go's.
            (Err(error), _) => prop_assert_eq!(error.reason, "invalid nested repetition operator"),
            (Ok(_), Err(error)) => return Err(TestCaseError::fail(error.to_string())),
        }
    }

    #[test]
    fn any_text_compiles_or_fails_with_a_reason(source in r"[\\pPLQExdws(){}\[\]|*+?.^$:<>a-c0-9,é-]{0,24}") {
        match Regex::new(&source) {
            Ok(regex) => { regex.is_match("abc"); }
            Err(error) => {
                let wrapped = format!("^(?s:{source})$");
                prop_assert!(wrapped.contains(&error.source_text));
            }
        }
    }
}
