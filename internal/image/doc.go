// Package image turns an image reference into folders that overlayfs can
// stack: it finds the image (in its own cache, the local Docker's store,
// containerd's, a registry, or a file), unpacks each layer once into a cache
// that all labs share, and says what the image wants run.
//
//	reference ──parse──> where to look ──find──> found: config, layers by diff id
//	                                               │
//	    dir/l/3f2a9c0d81be/d  <──unpack, once──────┘   Image.Layers
//	    dir/i/….json          what each reference is (List, Remove, Prune)
//	    dir/use/RUN.…         which lab needs which layers: locked while it lives
//	    dir/tmp/…             what is being unpacked: locked while it is
//
// An archive is written by others. Whatever stands in it, unpacking it
// changes nothing outside its layer's own folder: see unpacker.
package image
