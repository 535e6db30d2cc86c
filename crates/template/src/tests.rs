//! Whole templates: the shared conformance cases, and what alerts use.

use std::rc::Rc;

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::value::List;
use fk_model::FloatHistogram;

struct World(Vec<QuerySample>);

impl Functions for World {
    fn query(&self, expr: &str) -> Result<Vec<QuerySample>, String> {
        if expr == "bad" { Err("bad query".to_owned()) } else { Ok(self.0.clone()) }
    }

    fn now_ms(&self) -> i64 {
        1_353_755_652_000
    }

    fn external_url(&self) -> &str {
        "http://testhost:9090/path/prefix"
    }
}

fn labels_of(json: &Json) -> Labels {
    Labels::from_pairs(json.as_object().unwrap().iter().map(|(name, value)| (name, value.as_str().unwrap())))
}

/// The value a case gives as `.`; `None` if it needs something that is not built.
fn input(case: &Json) -> Option<Value> {
    let items = match &case["input"] {
        Json::Null => return Some(Value::None),
        Json::Array(items) => items,
        Json::Object(sample) => {
            let h = &sample["Value"]["histogram"];
            let number = |name: &str| h[name].as_f64().unwrap_or_default();
            let h = FloatHistogram { count: number("Count"), sum: number("Sum"), ..FloatHistogram::default() };
            let value = SampleValue::Histogram(h.into());
            return Some(Value::Sample(Rc::new(QuerySample { labels: Labels::empty(), value })));
        }
        _ => return None,
    };
    let (type_name, item): (_, fn(&str) -> Value) = match case["input_type"].as_str()? {
        "[]float64" => ("[]float64", |text| Value::Float(text.parse().unwrap())),
        "[]string" => ("[]string", |text| Value::string(text)),
        "[]int" | "[]int64" => ("[]int", |text| Value::Int(text.parse().unwrap())),
        "[]uint" | "[]uint64" => ("[]uint", |text| Value::Uint(text.parse().unwrap())),
        other => panic!("unknown input type {other}"),
    };
    let items = items.iter().map(|text| item(text.as_str().unwrap())).collect();
    Some(Value::List(Rc::new(List { type_name, items })))
}

#[test]
fn conformance_cases_expand_as_in_prometheus() {
    let Some(path) = fk_testkit::conformance("template/templates.json") else { return };
    let json: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let (mut n_run, mut left_out, mut failed) = (0, Vec::new(), Vec::new());
    for case in json["cases"].as_array().unwrap() {
        let id = case["id"].as_i64().unwrap();
        // Consoles (HTML escaping, options) are not built.
        let console = case["html"] == true || !case["options"].is_null();
        let Some(dot) = input(case).filter(|_| !console) else {
            left_out.push(id);
            continue;
        };
        n_run += 1;
        let sample = |json: &Json| QuerySample {
            labels: labels_of(&json["labels"]),
            value: SampleValue::Float(json["value"].as_str().unwrap().parse().unwrap()),
        };
        let world =
            World(case["query_result"].as_array().map(|all| all.iter().map(sample).collect()).unwrap_or_default());
        let text = case["template"].as_str().unwrap().to_owned();
        let got = Template::parse_bare("test", text).and_then(|template| template.run(dot, &world));
        let wanted = match case["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(case["output"].as_str().unwrap().to_owned()),
        };
        let got = got.map_err(|error| error.to_string());
        if got != wanted {
            failed.push(format!("{id} {}\n  wanted {wanted:?}\n  got    {got:?}", case["template"]));
        }
    }
    eprintln!(
        "templates: {} of {n_run} cases as in Prometheus; left out (consoles): {left_out:?}",
        n_run - failed.len()
    );
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn expand(text: &str, value: f64) -> Result<String, TemplateError> {
    let labels = Labels::from_pairs([("__name__", "up"), ("instance", "host:9100"), ("job", "node")]);
    let external_labels = Labels::from_pairs([("region", "north")]);
    let data = AlertData {
        labels: &labels,
        external_labels: &external_labels,
        external_url: "http://x",
        value: &SampleValue::Float(value),
    };
    let sample =
        |job: &str, v| QuerySample { labels: Labels::from_pairs([("job", job)]), value: SampleValue::Float(v) };
    Template::parse("__alert_A", text)?.expand(&data, &World(vec![sample("b", 2.0), sample("a", 1.0)]))
}

#[test]
fn alerts_see_labels_and_value() {
    for (text, value, expected) in [
        ("plain } text {", 0.0, "plain } text {"),
        ("{{ $labels.instance }} of {{$labels.job}}: {{ $value }}", 50.0, "host:9100 of node: 50"),
        ("{{ .Labels.instance }} {{ .Value }} {{ $.Labels.job }}", 0.5, "host:9100 0.5 node"),
        ("{{ $value }}", 1e6, "1e+06"),
        ("{{ $value }}", f64::NAN, "NaN"),
        ("{{ $labels.missing }}|{{ $externalLabels.region }}|{{ $externalURL }}", 0.0, "|north|http://x"),
        ("{{ $value | humanizePercentage }}", 0.1234, "12.34%"),
        ("{{ $value | printf \"%.2f\" }}", 1.005, "1.00"),
        ("{{ printf \"%s-%d\" $labels.job 3 }}", 0.0, "node-3"),
        ("a {{- \" b \" -}} c", 0.0, "a b c"),
        ("a {{- /* note */ -}} b", 0.0, "ab"),
        ("{{ if gt $value 10.0 }}high{{ else if gt $value 5.0 }}mid{{ else }}low{{ end }}", 7.0, "mid"),
        ("{{ with $labels.job }}{{ . }}{{ end }}{{ with $labels.none }}x{{ else }}none{{ end }}", 0.0, "nodenone"),
        ("{{ range $k, $v := $labels }}{{ $k }}={{ $v }};{{ end }}", 0.0, "__name__=up;instance=host:9100;job=node;"),
        ("{{ range query \"x\" | sortByLabel \"job\" }}{{ .Labels.job }}{{ . | value }}{{ end }}", 0.0, "a1b2"),
        ("{{ range $i, $s := query \"x\" }}{{ if eq $i 1 }}{{ break }}{{ end }}{{ $s.Value }}{{ end }}", 0.0, "2"),
        ("{{ $x := 1 }}{{ range query \"x\" }}{{ $x = 2 }}{{ end }}{{ $x }}", 0.0, "2"),
        ("{{ if and (eq $labels.job \"node\") (not (match \"^a\" $labels.instance)) }}y{{ end }}", 0.0, "y"),
        ("{{ or $labels.none \"default\" }} {{ and 1 0 }}", 0.0, "default 0"),
        ("{{ reReplaceAll \"(.*):\\\\d+\" \"$1\" $labels.instance }}", 0.0, "host"),
        ("{{ index $labels \"job\" }} {{ len $labels }} {{ slice \"abcd\" 1 3 }}", 0.0, "node 3 bc"),
        ("{{ title \"a bc-d é don't a.b.c 1x ..y\" }} {{ toUpper \"ß\" }}", 0.0, "A Bc-D É Don't A.b.c 1X ..Y ß"),
        ("{{ print 1 2 \"x\" 3 }}{{ println }}", 0.0, "1 2x3\n"),
        ("{{ $labels }}", 0.0, "map[__name__:up instance:host:9100 job:node]"),
        ("{{ block \"b\" . }}[{{ .Value }}]{{ end }}", 3.0, "[3]"),
        ("{{ range 3 }}{{ . }}{{ end }}", 0.0, "012"),
        (
            "{{ html nil }} {{ urlquery nil }} {{ safeHtml \"a\" | print 1.0 }}",
            0.0,
            "&lt;no value&gt; %3Cno+value%3E 1a",
        ),
        ("{{ 'a' }} {{ 0x1F }} {{ 1e3 }} {{ 1_000 }} {{ -1.5 }} {{ true }}", 0.0, "97 31 1000 1000 -1.5 true"),
    ] {
        assert_eq!(expand(text, value).map_err(|error| error.to_string()), Ok(expected.to_owned()), "{text}");
    }
}

#[test]
fn histograms_are_seen_through() {
    let h = FloatHistogram { count: 3.0, sum: 4.5, positive_buckets: vec![1.0, 2.0], ..FloatHistogram::default() };
    let (labels, value) = (Labels::empty(), SampleValue::Histogram(h.into()));
    let data = AlertData { labels: &labels, external_labels: &labels, external_url: "", value: &value };
    let text =
        "{{ $value.Count }} {{ humanize .Value.Sum }} {{ .Value.PositiveBuckets }} {{ printf \"%T\" $value.Schema }}";
    assert_eq!(Template::parse("a", text).unwrap().expand(&data, &World(vec![])).unwrap(), "3 4.5 [1 2] int32");
}

#[test]
fn times_and_durations_have_their_methods() {
    for (text, expected) in [
        ("{{ (toTime 1435065584.128).Format \"2006-01-02\" }}", "2015-06-23"),
        ("{{ (toTime 1435065584).Month }} {{ printf \"%d\" (toTime 1435065584).Month }}", "June 6"),
        ("{{ ((toTime 0).AddDate 0 1 30).Format \"2006-01-02\" }}", "1970-03-03"),
        ("{{ (toTime 100).Sub (toTime 40) }} {{ (toDuration 90).Minutes }}", "1m0s 1.5"),
        ("{{ ((toDuration 3725.6).Round 1000000000).String }}", "1h2m6s"),
        ("{{ (toTime 3725.6).Truncate 3600000000000 }}", "1970-01-01 01:00:00 +0000 UTC"),
        ("{{ toDuration 1e300 }}", "-2562047h47m16.854775808s"),
    ] {
        assert_eq!(expand(text, 0.0).map_err(|error| error.to_string()), Ok(expected.to_owned()), "{text}");
    }
}

#[test]
fn templates_that_cannot_work_do_not_parse() {
    for (text, message) in [
        ("{{ $label.instance }}", "undefined variable \"$label\""),
        ("{{$labels.quantile * 100}}", "unexpected \"*\" in operand"),
        ("{{ nope }}", "function \"nope\" not defined"),
        ("{{ tmpl \"a\" . }}", "function \"tmpl\" not defined"),
        ("{{ 1i }}", "complex constants are not supported: 1i"),
        ("{{", "unclosed action"),
        ("{{ }}", "missing value for command"),
        ("{{ (1 }}", "unclosed left paren"),
        ("{{ 1) }}", "unexpected right paren"),
        ("{{ \"a }}", "unterminated quoted string"),
        ("{{ `a }}", "unterminated raw quoted string"),
        ("{{ /* a }}", "unexpected \"/\" in command"),
        ("{{/* a }}", "unclosed comment"),
        ("{{/* a */ b}}", "comment ends before closing delimiter"),
        ("{{ if 1 }}", "unexpected EOF"),
        ("{{ end }}", "unexpected {{end}}"),
        ("{{ else }}", "unexpected {{else}}"),
        ("{{ break }}", "{{break}} outside {{range}}"),
        ("{{ if }}{{ end }}", "missing value for if"),
        ("{{ if 1 }}{{ else }}{{ else }}{{ end }}", "expected end; found {{else}}"),
        ("{{ 1 | 2 }}", "non executable command in pipeline stage 2"),
        ("{{ $a, $b := 1 }}", "too many declarations in command"),
        ("{{ 1_ }}", "illegal number syntax: \"1_\""),
        ("{{ 12x }}", "bad number syntax: \"12x\""),
        ("{{ 99999999999999999999 }}", "integer overflow: \"99999999999999999999\""),
        ("{{ \"a\".b }}", "unexpected . after term \"\\\"a\\\"\""),
        ("{{ define \"x\" }}", "unexpected EOF"),
        ("{{ 1 = 2 }}", "unexpected \"=\" in operand"),
        ("a\nb{{ nope }}", "function \"nope\" not defined"),
    ] {
        let error = Template::parse("__alert_A", text).unwrap_err();
        let TemplateError::Parse { line, message: got, .. } = &error else { panic!("{text}: {error}") };
        assert_eq!((got.as_str(), *line), (message, 1 + text.matches('\n').count()), "{text}");
        assert!(check(text).is_err(), "{text}");
    }
}

#[test]
fn failed_expansions_say_where() {
    for (text, error) in [
        ("{{ nil | print }}", "1:115: executing \"__alert_A\" at <nil>: nil is not a command"),
        ("{{ $value.x }}", "1:121: executing \"__alert_A\" at <$value.x>: can't evaluate field x in type float64"),
        (
            "{{ humanize \"x\" }}",
            "1:115: executing \"__alert_A\" at <humanize \"x\">: error calling humanize: strconv.ParseFloat: parsing \"x\": invalid syntax",
        ),
        ("\n{{ query \"bad\" }}", "2:3: executing \"__alert_A\" at <query \"bad\">: error calling query: bad query"),
        (
            "{{ gt $value 10 }}",
            "1:115: executing \"__alert_A\" at <gt $value 10>: error calling gt: incompatible types for comparison: float64 and int",
        ),
        (
            "{{ toUpper $value }}",
            "1:123: executing \"__alert_A\" at <$value>: wrong type for value; expected string; got float64",
        ),
        ("{{ toUpper 1 }}", "1:123: executing \"__alert_A\" at <1>: expected string; found 1"),
        (
            "{{ toUpper }}",
            "1:115: executing \"__alert_A\" at <toUpper>: wrong number of args for toUpper: want 1 got 0",
        ),
        ("{{ template \"x\" }}", "1:124: executing \"__alert_A\" at <{{template \"x\"}}>: template \"x\" not defined"),
        (
            "{{ match \"(\" \"x\" }}",
            "1:115: executing \"__alert_A\" at <match \"(\" \"x\">: error calling match: error parsing regexp: missing closing ): `(`",
        ),
        (
            "{{ index \"abc\" 3 }}",
            "1:115: executing \"__alert_A\" at <index \"abc\" 3>: error calling index: reflect: string index out of range",
        ),
    ] {
        let prefix = "error executing template __alert_A: template: __alert_A:";
        assert_eq!(expand(text, 1.0).unwrap_err().to_string(), format!("{prefix}{error}"), "{text}");
    }
}

#[test]
fn expansions_are_bounded() {
    let double = "{{ $x = printf \"%s%s\" $x $x }}".repeat(40);
    for (text, message) in [
        ("{{ range 1000000000 }}{{ end }}".to_owned(), "template takes more than 1000000 steps"),
        (
            "{{ define \"r\" }}{{ template \"r\" }}{{ end }}{{ template \"r\" }}".to_owned(),
            "exceeded maximum template depth (100)",
        ),
        (format!("{{{{ $x := \"0123456789\" }}}}{double}"), "error calling printf: text of a template is too large"),
        ("{{ range 300000 }}0123456789{{ end }}".to_owned(), "text of a template is too large"),
        (
            "{{ $x := 1 }}{{ range 300000 }}{{ $x = args $x }}{{ end }}".to_owned(),
            "error calling args: maps are nested deeper than 20 levels",
        ),
        (
            format!(
                "{{{{ $x := \"0123456789\" }}}}{}{{{{ $x }}}}",
                "{{ $x = args $x $x $x $x $x $x $x $x }}".repeat(20)
            ),
            "text of a template is too large",
        ),
        (
            format!("{{{{ $x := printf \"%9999d\" 1 }}}}{{{{ print {} }}}}", "$x ".repeat(1000)),
            "error calling print: text of a template is too large",
        ),
        (
            "{{ range 100000 }}{{ $x := printf \"%9999d\" 1 }}{{ end }}".to_owned(),
            "error calling printf: text of a template is too large",
        ),
    ] {
        match expand(&text, 0.0) {
            Err(TemplateError::Execute { message: got, .. }) => assert_eq!(got, message, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(500), ")".repeat(500));
    assert!(check(&deep).unwrap_err().to_string().contains("nested deeper than 100 levels"));
    let blocks = "{{ if 1 }}".repeat(500);
    assert!(check(&blocks).unwrap_err().to_string().contains("nested deeper than 100 levels"));
}

proptest! {
    #[test]
    fn any_text_parses_and_expands_or_is_refused(text in "([a-z .$|()\"`',:=0-9\n-]|\\{\\{|\\}\\}|if|end|range|else|with|printf|\\$labels|/\\*|\\*/|é){0,40}") {
        let _ = expand(&text, 1.0);
    }

    #[test]
    fn texts_without_actions_stay_as_they_are(text in "[^{]*") {
        prop_assert_eq!(expand(&text, 1.0).unwrap(), text);
    }

    #[test]
    fn quoted_texts_come_back(text in any::<String>()) {
        let quoted = crate::text::quote(&text);
        prop_assert_eq!(crate::text::unquote(&quoted), Ok(text));
    }
}
