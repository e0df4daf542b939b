// Package kube asks Kubernetes, and changes it: the client, what is read of
// pods, nodes and namespaces, and the ops on objects of the API. It alone
// imports client-go. An object is one by its UID: another of the same name is
// experiment.ErrGone.
package kube
