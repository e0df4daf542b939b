// Package journal keeps on disk what runs do: the journal of each run and its
// lock, the locks on the objects that runs change, and the history of results.
//
//	STATE/open/RUN.jsonl   a run that may have something left to take back
//	STATE/done/RUN.jsonl   the same file, moved, once it has not
//	STATE/state/           journals that belong to no run
//	STATE/history.db       an index of finished runs, rebuilt from done/
//	/run/simian/locks/     a file for each object that a run changes
//
// A journal is a program that root runs: a directory or file that others own
// or can write is refused.
package journal
