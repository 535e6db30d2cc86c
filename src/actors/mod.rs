//! The actors, one file each. An actor is a thin shell: parameters, an engine value, timers; its handlers translate messages
//! into engine calls. All run in a managed context (`fk_actorkit`): metered, restarted after a panic with address and queue
//! kept, at most five times a minute; after that the server stops in order with exit code 1.
//!
//! What must outlive a restart is in the `Params`: handles, slots, and the set of children.
//!
//! | actor | owns | receives | sends | runs on | after a panic |
//! |---|---|---|---|---|---|
//! | [`lifecycle`] | start order, stop order, exit code, watch for stuck actors | `DbOpen`, `Shutdown`, `Fatal` | `LoadInitial`, `ApplyInitial`, `ReloadReady`, `Drain` | main | a running server runs on; a start that was interrupted ends with exit code 1 |
//! | [`signals`] | the signal streams | - | `Shutdown`, `Reload` | main | listens again |
//! | [`config_reloader`] | the participants, the running configuration's slot | `LoadInitial`, `ApplyInitial`, `ReloadReady`, `Reload`, `Drain` | `ApplyConfig` | main | finishes a commit that was interrupted |
//! | [`discovery_manager`] (two: scrape, notify) | discoverers, the groups of each job | `ApplyConfig`, `GroupsFound`, `Drain` | `TargetGroups` | main | discoverers go on |
//! | [`discoverer`] | one provider, its file watch and refresh timer | `Tick`, `Drain` | `GroupsFound` | main, reading on blocking threads | reads everything again |
//! | [`scrape_manager`] | scrape pools | `ApplyConfig`, `TargetGroups`, `Tick`, `Drain` | `SyncTargets`, `UpdateJob`, `Drain` | main | pools go on scraping |
//! | [`scrape_pool`] | a job, its loops | `SyncTargets`, `UpdateJob`, `Drain` | `UpdateJob`, `EndTarget`, `Drain` | scrape threads | loops go on; targets are compared again |
//! | [`scrape_loop`] | a target's engine, timer and request | `UpdateJob`, `EndTarget`, `Drain` | nothing: samples go by handle | scrape threads | next scrape at its usual place, cache empty |
//! | [`rule_manager`] | rule groups | `ApplyConfig`, `Drain` | `Drain` | main | groups go on |
//! | [`rule_group`] | a group's timer and cell | `Tick`, `Drain` | `Admit`, `Alerts` | rule thread, evaluating on blocking threads | alert state kept; next slot |
//! | [`notifier`] | alert relabelling, Alertmanagers, senders | `ApplyConfig`, `TargetGroups`, `Alerts`, `Drain` | `SendAlerts`, `Drain` | main | queues kept, Alertmanagers found again |
//! | [`alertmanager_sender`] | the way to one Alertmanager | `SendAlerts`, `Drain` | nothing: posts | main | queue kept, the post under way counts as failed |
//! | [`ledger_keeper`] | the beat of the files that keep alerts over restarts | `Tick`, `Drain` | nothing | main, files on blocking threads | nothing is lost |
//! | [`storage_keeper`] | the life of the TSDB | `ApplyConfig`, `Sync`, `Maintain`, `Drain` | `DbOpen`, `Fatal` | main, files on blocking threads, maintenance on a thread of its own | the open storage stays open |
//! | [`remote_storage`] | the door for pushed samples | `ReloadReady`, `Drain` | - | main | nothing is lost |
//! | [`query_gate`] | slots and list of running queries | `ReloadReady`, `Admit`, `Drain` | - | main, evaluation elsewhere | nothing is lost |
//! | [`web_server`] | the HTTP server's handle | `Drain` | - | main, requests on web workers | requests are served on |

pub mod alertmanager_sender;
pub mod config_reloader;
pub mod discoverer;
pub mod discovery_manager;
pub mod ledger_keeper;
pub mod lifecycle;
pub mod notifier;
pub mod query_gate;
pub mod remote_storage;
pub mod rule_group;
pub mod rule_manager;
pub mod scrape_loop;
pub mod scrape_manager;
pub mod scrape_pool;
pub mod signals;
pub mod storage_keeper;
pub mod web_server;
