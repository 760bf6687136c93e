//! Real processes: three `raftkv server` on this machine, ended and stopped while clients work, and
//! whether these were told the truth.
//!
//! What runs here is the program itself over TCP and files, so a seed draws what is done to it, and
//! not when things happen: a run that fails need not fail again. (For that there is [`crate::sim`].)
//! What was told is judged after each fault and, with what a restart of everything still knows, at
//! the end.
//!
//! | file | what |
//! |---|---|
//! | [`program`] | one process: started, killed, stopped and continued |
//! | [`stores`] | the processes of a cluster, their ports and directories |
//! | [`resp`] | the few lines of the Redis protocol that a client needs |
//! | [`words`] | a request in Redis's words, and what the reply says of its fate |
//! | [`recorders`] | clients whose questions and answers are recorded |
//! | [`faults`] | what is done to the processes, drawn from a seed |
//! | [`nemesis`] | a run: clients, faults, judgement |
//! | [`report`] | what it came to |

pub mod faults;
pub mod nemesis;
pub mod program;
pub mod recorders;
pub mod report;
pub mod resp;
pub mod stores;
pub mod words;
