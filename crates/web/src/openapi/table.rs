//! What the API looks like, as tables: operations, schemas in the notation of `schema.rs`, and what the envelopes hold.

/// Routes with the same parameters and answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    /// Below `/api/v1`.
    pub(super) path: &'static str,
    /// Methods with the names that generated clients give them.
    pub(super) methods: &'static [(&'static str, &'static str)],
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) parameters: &'static [Parameter],
    /// Schema of the form that `POST` takes instead of parameters.
    pub(super) form: Option<&'static str>,
    pub(super) answers: Answers,
}

/// A parameter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    /// With `!` behind it if it has to be there, with `@` before that if it is a part of the path.
    pub(super) name: &'static str,
    pub(super) notation: &'static str,
    pub(super) description: &'static str,
}

const fn p(name: &'static str, notation: &'static str, description: &'static str) -> Parameter {
    Parameter { name, notation, description }
}

/// What a success looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answers {
    /// 204
    Nothing,
    /// The envelope of this name in [`BODIES`].
    Body(&'static str),
    /// Lines of JSON.
    Lines,
    /// A stream of events, which only version 3.2 can describe.
    Events,
}

const BATCH_SIZE: Parameter = p("batch_size", "count", "Results in one line of the answer.");
const CASE_SENSITIVE: Parameter = p("case_sensitive", "boolean", "Whether upper and lower case differ.");
const END: Parameter = p("end", "time", "The end of the time range.");
const END_REQUIRED: Parameter = p("end!", "time", "The end of the time range.");
const EXCLUDE_ALERTS: Parameter = p("exclude_alerts", "string", "Leaves the alerts of alerting rules out if true.");
const FILE_LIST: Parameter = p("file[]", "[string]", "Only groups of these files.");
const FUZZ_ALG: Parameter = p("fuzz_alg", "=subsequence/jarowinkler", "How terms are compared with names.");
const FUZZ_THRESHOLD: Parameter =
    p("fuzz_threshold", "int", "The lowest score in percent that an inexact match needs.");
const GROUP_LIMIT: Parameter = p("group_limit", "int", "Most groups of one answer.");
const GROUP_NEXT_TOKEN: Parameter =
    p("group_next_token", "string", "Where the next page begins, out of the answer before.");
const INCLUDE_METADATA: Parameter =
    p("include_metadata", "boolean", "Adds type, help and unit as the targets tell them.");
const INCLUDE_SCORE: Parameter = p("include_score", "boolean", "Adds the score of each result.");
const LABELS_REQUIRED: Parameter =
    p("labels!", "string", "The labels of a target before relabelling, as a JSON object.");
const LABEL_REQUIRED: Parameter = p("label!", "string", "The label whose values are searched.");
const LIMIT: Parameter = p("limit", "int", "Most elements of the answer.");
const LIMIT_PER_METRIC: Parameter = p("limit_per_metric", "int", "Most entries for one metric.");
const LOOKBACK_DELTA: Parameter =
    p("lookback_delta", "duration", "How long the newest sample of a series counts, for this query.");
const MATCH_LIST: Parameter = p("match[]", "[string]", "Series selectors, any of which a series has to match.");
const MATCH_LIST_REQUIRED: Parameter =
    p("match[]!", "[string]", "Series selectors, any of which a series has to match.");
const MATCH_TARGET: Parameter = p("match_target", "string", "A selector for the labels of targets.");
const METRIC: Parameter = p("metric", "string", "Only this metric.");
const METRIC_NAME_PATTERN: Parameter =
    p("metric_name_pattern", "string", "A regular expression that the whole name of a metric has to match.");
const NAME_IN_PATH_REQUIRED: Parameter = p("name@!", "string", "The name of the label.");
const QUERY_REQUIRED: Parameter = p("query!", "string", "The PromQL expression.");
const RULE_GROUP_LIST: Parameter = p("rule_group[]", "[string]", "Only groups with these names.");
const RULE_NAME_LIST: Parameter = p("rule_name[]", "[string]", "Only rules with these names.");
const SCRAPE_POOL: Parameter = p("scrapePool", "string", "The scrape pool.");
const SCRAPE_POOL_REQUIRED: Parameter = p("scrapePool!", "string", "The scrape pool.");
const SEARCH_LIMIT: Parameter = p("limit", "count", "Most elements of the answer.");
const SEARCH_LIST: Parameter = p("search[]", "[string]", "What is looked for; any of several terms is enough.");
const SKIP_HEAD: Parameter = p("skip_head", "string", "Leaves out what is not in a block yet, if true.");
const SORT_BY: Parameter = p("sort_by", "=alpha/score", "Order of the results: by name, or the best score first.");
const SORT_DIR: Parameter = p("sort_dir", "=asc/dsc", "Direction of the order by name.");
const START: Parameter = p("start", "time", "The begin of the time range.");
const START_REQUIRED: Parameter = p("start!", "time", "The begin of the time range.");
const STATE: Parameter = p("state", "string", "active, dropped or any.");
const STATS: Parameter = p("stats", "string", "Adds statistics of the evaluation; all for those of each step.");
const STEP_REQUIRED: Parameter = p("step!", "duration", "Time between two points of the answer.");
const TIME: Parameter = p("time", "time", "The time of evaluation; now without it.");
const TIMEOUT: Parameter =
    p("timeout", "duration", "How long the query may take; never longer than the server allows.");
const TYPE: Parameter = p("type", "string", "alert or record: only rules of this kind.");

/// Every operation, in the order of the document. Those that are no route of this server are left out of it.
pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        path: "/query",
        methods: &[("get", "query"), ("post", "query-post")],
        tag: "query",
        summary: "Evaluates an expression at one time",
        parameters: &[LIMIT, TIME, QUERY_REQUIRED, TIMEOUT, LOOKBACK_DELTA, STATS],
        form: Some("QueryPostInputBody"),
        answers: Answers::Body("Query"),
    },
    Operation {
        path: "/query_range",
        methods: &[("get", "query-range"), ("post", "query-range-post")],
        tag: "query",
        summary: "Evaluates an expression over a range of time",
        parameters: &[
            LIMIT,
            START_REQUIRED,
            END_REQUIRED,
            STEP_REQUIRED,
            QUERY_REQUIRED,
            TIMEOUT,
            LOOKBACK_DELTA,
            STATS,
        ],
        form: Some("QueryRangePostInputBody"),
        answers: Answers::Body("QueryRange"),
    },
    Operation {
        path: "/query_exemplars",
        methods: &[("get", "query-exemplars"), ("post", "query-exemplars-post")],
        tag: "query",
        summary: "Exemplars of the series that an expression selects",
        parameters: &[START, END, QUERY_REQUIRED],
        form: Some("QueryExemplarsPostInputBody"),
        answers: Answers::Body("QueryExemplars"),
    },
    Operation {
        path: "/format_query",
        methods: &[("get", "format-query"), ("post", "format-query-post")],
        tag: "query",
        summary: "Prints an expression in its standard form",
        parameters: &[QUERY_REQUIRED],
        form: Some("FormatQueryPostInputBody"),
        answers: Answers::Body("FormatQuery"),
    },
    Operation {
        path: "/parse_query",
        methods: &[("get", "parse-query"), ("post", "parse-query-post")],
        tag: "query",
        summary: "The syntax tree of an expression",
        parameters: &[QUERY_REQUIRED],
        form: Some("ParseQueryPostInputBody"),
        answers: Answers::Body("ParseQuery"),
    },
    Operation {
        path: "/labels",
        methods: &[("get", "labels"), ("post", "labels-post")],
        tag: "labels",
        summary: "Names of labels",
        parameters: &[START, END, MATCH_LIST, LIMIT],
        form: Some("LabelsPostInputBody"),
        answers: Answers::Body("Labels"),
    },
    Operation {
        path: "/label/{name}/values",
        methods: &[("get", "label-values")],
        tag: "labels",
        summary: "Values of one label",
        parameters: &[NAME_IN_PATH_REQUIRED, START, END, MATCH_LIST, LIMIT],
        form: None,
        answers: Answers::Body("LabelValues"),
    },
    Operation {
        path: "/search/metric_names",
        methods: &[("get", "search-metric-names"), ("post", "search-metric-names-post")],
        tag: "metadata",
        summary: "Searches metric names",
        parameters: &[
            MATCH_LIST,
            SEARCH_LIST,
            FUZZ_THRESHOLD,
            FUZZ_ALG,
            CASE_SENSITIVE,
            SORT_BY,
            SORT_DIR,
            INCLUDE_SCORE,
            INCLUDE_METADATA,
            START,
            END,
            SEARCH_LIMIT,
            BATCH_SIZE,
        ],
        form: Some("SearchMetricNamesPostInputBody"),
        answers: Answers::Lines,
    },
    Operation {
        path: "/search/label_names",
        methods: &[("get", "search-label-names"), ("post", "search-label-names-post")],
        tag: "labels",
        summary: "Searches label names",
        parameters: &[
            MATCH_LIST,
            SEARCH_LIST,
            FUZZ_THRESHOLD,
            FUZZ_ALG,
            CASE_SENSITIVE,
            SORT_BY,
            SORT_DIR,
            INCLUDE_SCORE,
            START,
            END,
            SEARCH_LIMIT,
            BATCH_SIZE,
        ],
        form: Some("SearchLabelNamesPostInputBody"),
        answers: Answers::Lines,
    },
    Operation {
        path: "/search/label_values",
        methods: &[("get", "search-label-values"), ("post", "search-label-values-post")],
        tag: "labels",
        summary: "Searches the values of a label",
        parameters: &[
            LABEL_REQUIRED,
            MATCH_LIST,
            SEARCH_LIST,
            FUZZ_THRESHOLD,
            FUZZ_ALG,
            CASE_SENSITIVE,
            SORT_BY,
            SORT_DIR,
            INCLUDE_SCORE,
            START,
            END,
            SEARCH_LIMIT,
            BATCH_SIZE,
        ],
        form: Some("SearchLabelValuesPostInputBody"),
        answers: Answers::Lines,
    },
    Operation {
        path: "/series",
        methods: &[("get", "series"), ("post", "series-post")],
        tag: "series",
        summary: "Series that match selectors",
        parameters: &[START, END, MATCH_LIST_REQUIRED, LIMIT],
        form: Some("SeriesPostInputBody"),
        answers: Answers::Body("Series"),
    },
    Operation {
        path: "/metadata",
        methods: &[("get", "get-metadata")],
        tag: "metadata",
        summary: "Metadata of metrics",
        parameters: &[LIMIT, LIMIT_PER_METRIC, METRIC],
        form: None,
        answers: Answers::Body("Metadata"),
    },
    Operation {
        path: "/scrape_pools",
        methods: &[("get", "get-scrape-pools")],
        tag: "targets",
        summary: "Names of the scrape pools",
        parameters: &[],
        form: None,
        answers: Answers::Body("ScrapePools"),
    },
    Operation {
        path: "/scrape_pools/config",
        methods: &[("get", "get-scrape-pool-config")],
        tag: "targets",
        summary: "Configuration of one scrape pool",
        parameters: &[SCRAPE_POOL_REQUIRED],
        form: None,
        answers: Answers::Body("ScrapePoolConfig"),
    },
    Operation {
        path: "/targets",
        methods: &[("get", "get-targets")],
        tag: "targets",
        summary: "Scrape targets",
        parameters: &[SCRAPE_POOL, STATE],
        form: None,
        answers: Answers::Body("Targets"),
    },
    Operation {
        path: "/targets/metadata",
        methods: &[("get", "get-targets-metadata")],
        tag: "targets",
        summary: "Metadata of metrics, by target",
        parameters: &[MATCH_TARGET, METRIC, LIMIT],
        form: None,
        answers: Answers::Body("TargetMetadata"),
    },
    Operation {
        path: "/targets/relabel_steps",
        methods: &[("get", "get-targets-relabel-steps")],
        tag: "targets",
        summary: "What each relabelling rule of a scrape pool does to a target",
        parameters: &[SCRAPE_POOL_REQUIRED, LABELS_REQUIRED],
        form: None,
        answers: Answers::Body("TargetRelabelSteps"),
    },
    Operation {
        path: "/rules",
        methods: &[("get", "rules")],
        tag: "rules",
        summary: "Rule groups with their rules",
        parameters: &[
            TYPE,
            RULE_NAME_LIST,
            RULE_GROUP_LIST,
            FILE_LIST,
            MATCH_LIST,
            EXCLUDE_ALERTS,
            GROUP_LIMIT,
            GROUP_NEXT_TOKEN,
        ],
        form: None,
        answers: Answers::Body("Rules"),
    },
    Operation {
        path: "/alerts",
        methods: &[("get", "alerts")],
        tag: "alerts",
        summary: "Active alerts",
        parameters: &[],
        form: None,
        answers: Answers::Body("Alerts"),
    },
    Operation {
        path: "/alertmanagers",
        methods: &[("get", "alertmanagers")],
        tag: "alerts",
        summary: "Alertmanagers",
        parameters: &[],
        form: None,
        answers: Answers::Body("Alertmanagers"),
    },
    Operation {
        path: "/status/config",
        methods: &[("get", "get-status-config")],
        tag: "status",
        summary: "The configuration in force",
        parameters: &[],
        form: None,
        answers: Answers::Body("StatusConfig"),
    },
    Operation {
        path: "/status/runtimeinfo",
        methods: &[("get", "get-status-runtimeinfo")],
        tag: "status",
        summary: "The running process",
        parameters: &[],
        form: None,
        answers: Answers::Body("StatusRuntimeInfo"),
    },
    Operation {
        path: "/status/buildinfo",
        methods: &[("get", "get-status-buildinfo")],
        tag: "status",
        summary: "How the program was built",
        parameters: &[],
        form: None,
        answers: Answers::Body("StatusBuildInfo"),
    },
    Operation {
        path: "/status/flags",
        methods: &[("get", "get-status-flags")],
        tag: "status",
        summary: "Command-line flags",
        parameters: &[],
        form: None,
        answers: Answers::Body("StatusFlags"),
    },
    Operation {
        path: "/status/tsdb",
        methods: &[("get", "status-tsdb")],
        tag: "status",
        summary: "Statistics of the head block",
        parameters: &[LIMIT],
        form: None,
        answers: Answers::Body("StatusTSDB"),
    },
    Operation {
        path: "/status/tsdb/blocks",
        methods: &[("get", "status-tsdb-blocks")],
        tag: "status",
        summary: "Blocks on disk",
        parameters: &[],
        form: None,
        answers: Answers::Body("StatusTSDBBlocks"),
    },
    Operation {
        path: "/status/walreplay",
        methods: &[("get", "get-status-walreplay")],
        tag: "status",
        summary: "How far the write-ahead log has been read",
        parameters: &[],
        form: None,
        answers: Answers::Body("StatusWALReplay"),
    },
    Operation {
        path: "/status/self_metrics",
        methods: &[("get", "get-status-self-metrics")],
        tag: "status",
        summary: "The server's own metrics",
        parameters: &[METRIC_NAME_PATTERN],
        form: None,
        answers: Answers::Body("StatusSelfMetrics"),
    },
    Operation {
        path: "/admin/tsdb/delete_series",
        methods: &[("put", "deleteSeriesPut"), ("post", "deleteSeriesPost")],
        tag: "admin",
        summary: "Deletes samples",
        parameters: &[MATCH_LIST_REQUIRED, START, END],
        form: None,
        answers: Answers::Body("DeleteSeries"),
    },
    Operation {
        path: "/admin/tsdb/clean_tombstones",
        methods: &[("put", "cleanTombstonesPut"), ("post", "cleanTombstonesPost")],
        tag: "admin",
        summary: "Gives the space of deleted samples back",
        parameters: &[],
        form: None,
        answers: Answers::Body("CleanTombstones"),
    },
    Operation {
        path: "/admin/tsdb/snapshot",
        methods: &[("put", "snapshotPut"), ("post", "snapshotPost")],
        tag: "admin",
        summary: "Makes a copy of the data",
        parameters: &[SKIP_HEAD],
        form: None,
        answers: Answers::Body("Snapshot"),
    },
    Operation {
        path: "/read",
        methods: &[("post", "remoteRead")],
        tag: "remote",
        summary: "Remote read",
        parameters: &[],
        form: None,
        answers: Answers::Nothing,
    },
    Operation {
        path: "/write",
        methods: &[("post", "remoteWrite")],
        tag: "remote",
        summary: "Remote write",
        parameters: &[],
        form: None,
        answers: Answers::Nothing,
    },
    Operation {
        path: "/otlp/v1/metrics",
        methods: &[("post", "otlpWrite")],
        tag: "otlp",
        summary: "Takes metrics of OpenTelemetry",
        parameters: &[],
        form: None,
        answers: Answers::Nothing,
    },
    Operation {
        path: "/notifications",
        methods: &[("get", "get-notifications")],
        tag: "notifications",
        summary: "Notifications",
        parameters: &[],
        form: None,
        answers: Answers::Body("Notifications"),
    },
    Operation {
        path: "/notifications/live",
        methods: &[("get", "notifications-live")],
        tag: "notifications",
        summary: "Notifications as they come, as a stream of events",
        parameters: &[],
        form: None,
        answers: Answers::Events,
    },
    Operation {
        path: "/features",
        methods: &[("get", "get-features")],
        tag: "features",
        summary: "What the server can do",
        parameters: &[],
        form: None,
        answers: Answers::Body("Features"),
    },
];

/// Envelopes, and the schema of their data; empty: they have none.
pub(super) static BODIES: &[(&str, &str)] = &[
    ("Query", "#QueryData"),
    ("QueryRange", "#QueryData"),
    ("QueryExemplars", "any"),
    ("FormatQuery", "string"),
    ("ParseQuery", "any"),
    ("Labels", "[string]"),
    ("LabelValues", "[string]"),
    ("Series", "[#Labels]"),
    ("Metadata", "{*: [#Metadata]}"),
    ("Targets", "#TargetDiscovery"),
    ("TargetMetadata", "[#MetricMetadata]"),
    ("ScrapePools", "#ScrapePoolsDiscovery"),
    ("ScrapePoolConfig", "#ScrapePoolConfigData"),
    ("TargetRelabelSteps", "#RelabelStepsResponse"),
    ("Rules", "#RuleDiscovery"),
    ("Alerts", "#AlertDiscovery"),
    ("Alertmanagers", "#AlertmanagerDiscovery"),
    ("StatusConfig", "#StatusConfigData"),
    ("StatusRuntimeInfo", "#RuntimeInfo"),
    ("StatusBuildInfo", "#PrometheusVersion"),
    ("StatusFlags", "{*: string}"),
    ("StatusTSDB", "#TSDBStatus"),
    ("StatusTSDBBlocks", "#StatusTSDBBlocksData"),
    ("StatusWALReplay", "#StatusWALReplayData"),
    ("StatusSelfMetrics", "any"),
    ("DeleteSeries", ""),
    ("CleanTombstones", ""),
    ("Snapshot", "#DataStruct"),
    ("Notifications", "[#Notification]"),
    ("Features", "any"),
];

/// Everything else.
pub(super) static SCHEMAS: &[(&str, &str)] = &[
    ("Error", "{status!: =success/error, errorType!: string, error!: string}"),
    ("Labels", "{*: any}"),
    (
        "QueryPostInputBody",
        "{query!: string, time: string, limit: int, timeout: string, lookback_delta: string, stats: string}",
    ),
    (
        "QueryRangePostInputBody",
        "{query!: string, start!: string, end!: string, step!: string, limit: int, timeout: string, \
         lookback_delta: string, stats: string}",
    ),
    ("QueryExemplarsPostInputBody", "{query!: string, start: string, end: string}"),
    ("FormatQueryPostInputBody", "{query!: string}"),
    ("ParseQueryPostInputBody", "{query!: string}"),
    (
        "QueryData",
        "some({resultType!: =vector, result!: [some(#FloatSample, #HistogramSample)], stats: #QueryStats}, \
         {resultType!: =matrix, result!: [some(#FloatSeries, #HistogramSeries)], stats: #QueryStats}, \
         {resultType!: =scalar, result!: [one(number, string)]2, stats: #QueryStats}, {resultType!: \
         =string, result!: [string]2, stats: #QueryStats})",
    ),
    (
        "QueryStats",
        "{...timings: {...evalTotalTime: number, resultSortTime: number, queryPreparationTime: number, \
         innerEvalTime: number, execQueueTime: number, execTotalTime: number}, samples: \
         {...totalQueryableSamples: integer, peakSamples: integer, totalQueryableSamplesPerStep: \
         [[number]2], samplesRead: integer, samplesReadPerStep: [[number]2]}}",
    ),
    ("FloatSample", "{metric!: #Labels, value!: [one(number, string)]2}"),
    ("HistogramSample", "{metric!: #Labels, histogram!: [one(number, #HistogramValue)]2}"),
    ("FloatSeries", "{metric!: #Labels, values!: [[one(number, string)]2]}"),
    ("HistogramSeries", "{metric!: #Labels, histograms!: [[one(number, #HistogramValue)]2]}"),
    ("HistogramValue", "{count!: string, sum!: string, buckets: [[one(number, string)]]}"),
    ("LabelsPostInputBody", "{start: string, end: string, match[]: [string], limit: int}"),
    (
        "SearchMetricNamesPostInputBody",
        "{match[]: [string], search[]: [string], fuzz_threshold: int, fuzz_alg: =subsequence/jarowinkler, \
         case_sensitive: boolean, sort_by: =alpha/score, sort_dir: =asc/dsc, include_score: boolean, \
         start: string, end: string, limit: count, batch_size: count, include_metadata: boolean}",
    ),
    (
        "SearchLabelNamesPostInputBody",
        "{match[]: [string], search[]: [string], fuzz_threshold: int, fuzz_alg: =subsequence/jarowinkler, \
         case_sensitive: boolean, sort_by: =alpha/score, sort_dir: =asc/dsc, include_score: boolean, \
         start: string, end: string, limit: count, batch_size: count}",
    ),
    (
        "SearchLabelValuesPostInputBody",
        "{label!: string, match[]: [string], search[]: [string], fuzz_threshold: int, fuzz_alg: \
         =subsequence/jarowinkler, case_sensitive: boolean, sort_by: =alpha/score, sort_dir: =asc/dsc, \
         include_score: boolean, start: string, end: string, limit: count, batch_size: count}",
    ),
    ("SeriesPostInputBody", "{start: string, end: string, match[]!: [string], limit: int}"),
    ("Metadata", "{type!: string, unit!: string, help!: string}"),
    ("MetricMetadata", "{target!: #Labels, metric: string, type!: string, help!: string, unit!: string}"),
    (
        "Target",
        "{discoveredLabels!: #Labels, labels!: #Labels, scrapePool!: string, scrapeUrl!: string, \
         globalUrl!: string, lastError!: string, lastScrape!: instant, lastScrapeDuration!: double, \
         health!: string, scrapeInterval!: string, scrapeTimeout!: string}",
    ),
    ("DroppedTarget", "{discoveredLabels!: #Labels, scrapePool!: string}"),
    (
        "TargetDiscovery",
        "{activeTargets!: [#Target], droppedTargets!: [#DroppedTarget], droppedTargetCounts!: {*: int}}",
    ),
    ("ScrapePoolsDiscovery", "{scrapePools!: [string]}"),
    ("ScrapePoolConfigData", "{yaml!: string}"),
    (
        "Config",
        "{source_labels: [string], separator: string, regex: string, modulus: int, target_label: string, \
         replacement: string, action: string}",
    ),
    ("RelabelStep", "{rule!: #Config, output!: #Labels, keep!: boolean}"),
    ("RelabelStepsResponse", "{steps!: [#RelabelStep]}"),
    (
        "RuleGroup",
        "{name!: string, file!: string, rules!: [{}], interval!: double, limit!: int, evaluationTime!: \
         double, lastEvaluation!: instant}",
    ),
    ("RuleDiscovery", "{groups!: [#RuleGroup], groupNextToken: string}"),
    (
        "Alert",
        "{labels!: #Labels, annotations!: #Labels, state!: string, value!: string, activeAt: instant, \
         keepFiringSince: instant}",
    ),
    ("AlertDiscovery", "{alerts!: [#Alert]}"),
    ("AlertmanagerTarget", "{url!: string}"),
    (
        "AlertmanagerDiscovery",
        "{activeAlertmanagers!: [#AlertmanagerTarget], droppedAlertmanagers!: [#AlertmanagerTarget]}",
    ),
    ("StatusConfigData", "{yaml!: string}"),
    (
        "RuntimeInfo",
        "{startTime!: instant, CWD!: string, hostname!: string, serverTime!: instant, \
         reloadConfigSuccess!: boolean, lastConfigTime!: instant, corruptionCount!: int, goroutineCount!: \
         int, GOMAXPROCS!: int, GOMEMLIMIT!: int, GOGC!: string, GODEBUG!: string, storageRetention!: \
         string}",
    ),
    (
        "PrometheusVersion",
        "{version!: string, revision!: string, branch!: string, buildUser!: string, buildDate!: string, \
         goVersion!: string}",
    ),
    ("HeadStats", "{numSeries!: int, numLabelPairs!: int, chunkCount!: int, minTime!: int, maxTime!: int}"),
    ("TSDBStat", "{name!: string, value!: int}"),
    (
        "TSDBStatus",
        "{headStats!: #HeadStats, seriesCountByMetricName!: [#TSDBStat], labelValueCountByLabelName!: \
         [#TSDBStat], memoryInBytesByLabelName!: [#TSDBStat], seriesCountByLabelValuePair!: [#TSDBStat]}",
    ),
    ("BlockDesc", "{ulid!: string, minTime!: int, maxTime!: int}"),
    (
        "BlockStats",
        "{numSamples: int, numSeries: int, numChunks: int, numTombstones: int, numFloatSamples: int, \
         numHistogramSamples: int}",
    ),
    (
        "BlockMetaCompaction",
        "{level!: int, sources: [string], parents: [#BlockDesc], failed: boolean, deletable: boolean, \
         hints: [string]}",
    ),
    (
        "BlockMeta",
        "{ulid!: string, minTime!: int, maxTime!: int, stats: #BlockStats, compaction!: \
         #BlockMetaCompaction, version!: int}",
    ),
    ("StatusTSDBBlocksData", "{blocks!: [#BlockMeta]}"),
    ("StatusWALReplayData", "{min!: int, max!: int, current!: int}"),
    ("DataStruct", "{name!: string}"),
    ("Notification", "{text!: string, date!: instant, active!: boolean}"),
];

/// Groups of operations: name, title, description.
pub(super) static TAGS: &[(&str, &str, &str)] = &[
    ("query", "Query", "Evaluate PromQL."),
    ("metadata", "Metadata", "What metrics are."),
    ("labels", "Labels", "Names and values of labels."),
    ("series", "Series", "Find series."),
    ("targets", "Targets", "Scrape pools and their targets."),
    ("rules", "Rules", "Recording and alerting rules."),
    ("alerts", "Alerts", "Alerts, and the Alertmanagers that get them."),
    ("status", "Status", "Configuration and state of the server."),
    ("admin", "Admin", "Work on the stored data."),
    ("features", "Features", "What is switched on."),
    ("remote", "Remote Storage", "Remote read and write."),
    ("otlp", "OTLP", "The OpenTelemetry protocol."),
    ("notifications", "Notifications", "What the server tells people."),
];
