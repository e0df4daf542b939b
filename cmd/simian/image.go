package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/simianhq/simian/internal/image"
	"github.com/simianhq/simian/internal/report"
)

func (a *app) imageCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "image",
		Short: "Fetch, list and remove the images of containers",
		Long: `Images are kept unpacked, layer by layer, below Simian's state directory; labs
share them. An image comes from a registry, the local Docker's or containerd's
store, or from a file (docs/images.md has the forms of its name).
` + plainExitCodes,
		Example: "  simian image pull nginx:1.27\n  simian image ls",
		Args:    noArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.imagePullCommand(), a.imageLsCommand(), a.imageRmCommand(), a.imagePruneCommand())
	return c
}

func (a *app) imagePullCommand() *cobra.Command {
	var o image.Options
	var out output
	c := &cobra.Command{
		Use:     "pull IMAGE...",
		Short:   "Fetch images, and unpack them",
		Long:    "Pull fetches images, even where they are there already, and unpacks what is new.\n" + plainExitCodes,
		Example: "  simian image pull nginx:1.27\n  simian image pull docker-archive:shop.tar",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, refs []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			cache, err := image.Open(a.imageDir())
			if err != nil {
				return err
			}
			o.Pull, o.Progress = "always", a.layerProgress()
			ctx, stop := interruptible(c.Context(), a.stderr)
			defer stop()
			pulled := []*image.Image{}
			for _, ref := range refs {
				img, err := cache.Get(ctx, ref, o)
				if err != nil {
					return err
				}
				pulled = append(pulled, img)
				if !asJSON {
					fmt.Fprintf(a.stdout, "%s  %s  %s\n", img.Ref, img.Digest, count(len(img.Layers), "layer"))
				}
			}
			if asJSON {
				return writeJSON(a.stdout, pulled)
			}
			return nil
		},
	}
	c.Flags().StringVar(&o.Platform, "platform", "", "os/arch[/variant], in place of this host's")
	out.add(c)
	return c
}

// layerProgress says of each layer when it is there.
func (a *app) layerProgress() func(image.Progress) {
	return func(p image.Progress) {
		if p.Done && !p.Present {
			fmt.Fprintf(a.stderr, "layer %d of %d unpacked (from %s)\n", p.Index, p.Layers, p.From)
		}
	}
}

func (a *app) imageLsCommand() *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:     "ls",
		Short:   "List the images that are there",
		Long:    "Ls lists the images that are there, and which labs use them.\n" + plainExitCodes,
		Example: "  simian image ls -o json",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			cache, err := image.Open(a.imageDir())
			if err != nil {
				return err
			}
			list, err := cache.List(c.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.stdout, list)
			}
			var rows [][]string
			for _, e := range list {
				digest := strings.TrimPrefix(e.Digest, "sha256:")
				use := strings.Join(e.InUseBy, ", ")
				if e.Broken {
					use = "a layer is missing: it is fetched anew"
				}
				rows = append(rows, []string{e.Ref, digest[:min(12, len(digest))], e.Platform, mebibytes(uint64(e.Size)), e.Pulled.Format(time.DateTime), use})
			}
			return report.Table(a.stdout, []string{"IMAGE", "DIGEST", "PLATFORM", "SIZE", "PULLED", "IN USE BY"}, rows)
		},
	}
	out.add(c)
	return c
}

func (a *app) imageRmCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rm IMAGE...",
		Short:   "Remove images that no lab uses",
		Long:    "Rm removes images, with the layers that nothing else uses. IMAGE is a name, or the\nfirst twelve digits or more of a digest.\n" + plainExitCodes,
		Example: "  simian image rm nginx:1.27",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, refs []string) error {
			cache, err := image.Open(a.imageDir())
			if err != nil {
				return err
			}
			for _, ref := range refs {
				if err := cache.Remove(c.Context(), ref); err != nil {
					return err
				}
				fmt.Fprintln(a.stdout, "removed "+ref)
			}
			return nil
		},
	}
}

func (a *app) imagePruneCommand() *cobra.Command {
	var o image.PruneOptions
	var out output
	c := &cobra.Command{
		Use:   "prune",
		Short: "Remove what no image and no lab uses any more",
		Long: `Prune removes layers that belong to no image any more, and what killed processes
left. With --all it removes every image that no lab uses just now.
` + plainExitCodes,
		Example: "  simian image prune\n  simian image prune --all --unused-for 168h",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			if o.UnusedFor != 0 && !o.All {
				return usage(fmt.Errorf("--unused-for goes with --all"))
			}
			cache, err := image.Open(a.imageDir())
			if err != nil {
				return err
			}
			p, err := cache.Prune(c.Context(), o)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.stdout, p)
			}
			fmt.Fprintf(a.stdout, "removed %s and %s, %s\n", count(len(p.Images), "image"), count(p.Layers, "layer"), mebibytes(uint64(p.Bytes)))
			return nil
		},
	}
	c.Flags().BoolVar(&o.All, "all", false, "every image that no lab uses just now")
	c.Flags().DurationVar(&o.UnusedFor, "unused-for", 0, "with --all: spare those that were asked for since")
	out.add(c)
	return c
}

// imageDir is where images are kept.
func (a *app) imageDir() string { return filepath.Join(a.dir, "images") }
