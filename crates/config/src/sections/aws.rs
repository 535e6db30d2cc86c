//! The discovery sections of Amazon's services. Each of them is also a role of `aws_sd_configs`.

use super::{Complaints, Field, HTTP, Kind, Section, Values, duration, field, int, no_check, secret, text, texts};

const NO_REDIRECTS: Field = field("", Kind::HttpClient(false, false));
const ROLES: &[&str] = &["ec2", "ecs", "elasticache", "lightsail", "msk", "rds"];
const UNKNOWN_ROLE: &str = "unknown AWS SD role";

const FILTER: Section = Section { go_type: "aws.Filter", fields: &[text("name"), texts("values")], check: no_check };

pub(crate) const AWS: Section = Section {
    go_type: "aws.plain",
    fields: &[
        field("role", Kind::Word(ROLES, UNKNOWN_ROLE)),
        text("region").omit(),
        text("endpoint").omit(),
        text("access_key").omit(),
        secret("secret_key").omit(),
        text("profile").omit(),
        text("role_arn").omit(),
        text("external_id").omit(),
        duration("refresh_interval").omit(),
        int("port").omit(),
        NO_REDIRECTS,
        field("filters", Kind::List(&FILTER)).omit(),
        texts("clusters").omit(),
    ],
    check: |values, complaints| {
        // Text as in Prometheus:
        complaints.missing(values, "role", format!("{UNKNOWN_ROLE} \"\""));
    },
};

const KEY: Field = text("access_key").omit();
const SECRET: Field = secret("secret_key").omit();
const PROFILE: Field = text("profile").omit();
const ROLE_ARN: Field = text("role_arn").omit();
const EXTERNAL_ID: Field = text("external_id").omit();
const REFRESH: Field = duration("refresh_interval").or_ms(60_000).omit();
const PORT: Field = int("port").or_int(80);
const FILTERS: Field = field("filters", Kind::List(&FILTER));

pub(crate) const EC2: Section = Section {
    go_type: "aws.plain",
    fields: &[
        text("endpoint"),
        text("region"),
        KEY,
        SECRET,
        PROFILE,
        ROLE_ARN,
        EXTERNAL_ID,
        REFRESH,
        PORT,
        FILTERS,
        HTTP,
    ],
    check: check_filters,
};

fn check_filters(values: &mut Values, complaints: &mut Complaints) {
    if values.list("filters").iter().any(|filter| filter.texts("values").is_empty()) {
        // Text as in Prometheus:
        complaints.at("filters", "EC2 SD configuration filter values cannot be empty");
    }
}

pub(crate) const LIGHTSAIL: Section = Section {
    go_type: "aws.plain",
    fields: &[text("endpoint"), text("region"), KEY, SECRET, PROFILE, ROLE_ARN, EXTERNAL_ID, REFRESH, PORT, HTTP],
    check: no_check,
};

/// The fields of a service that is asked cluster by cluster, `$concurrency` requests at a time.
macro_rules! by_cluster {
    ($concurrency:literal $($more:expr)?) => {
        &[
            text("region"),
            text("endpoint"),
            KEY,
            SECRET,
            PROFILE,
            ROLE_ARN,
            EXTERNAL_ID,
            texts("clusters").omit(),
            PORT,
            REFRESH,
            $($more,)?
            int("request_concurrency").or_int($concurrency).omit(),
            HTTP,
        ]
    };
}

pub(crate) const ECS: Section = Section { go_type: "aws.plain", fields: by_cluster!(20), check: no_check };
pub(crate) const ELASTICACHE: Section = Section { go_type: "aws.plain", fields: by_cluster!(10), check: no_check };
pub(crate) const MSK: Section = Section { go_type: "aws.plain", fields: by_cluster!(10), check: no_check };
pub(crate) const RDS: Section = Section { go_type: "aws.plain", fields: by_cluster!(10 FILTERS), check: no_check };
