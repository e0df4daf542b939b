package gateway

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"

	"github.com/simianhq/simian/examples/shop/internal/catalog"
)

//go:embed *.html
var pages embed.FS

// templates are the pages, parsed once.
var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"card":  func(user int, p catalog.Product) card { return card{p, user} },
	"euros": func(cents int) string { return fmt.Sprintf("€ %d.%02d", cents/100, cents%100) },
}).ParseFS(pages, "*.html"))

// page is what the templates are given.
type page struct {
	User    int
	Name    string // "" where it is not known
	City    string
	Picks   picks
	Shelves []row    // of the home page
	Age     string   // of the catalogue's copy, where it is old
	Receipt *Receipt // of the receipt page
}

// card is one product on the page of a customer.
type card struct {
	catalog.Product
	User int
}

// row is what is sold of one kind.
type row struct {
	Title    string
	Products []catalog.Product
}

func newPage(v *visit, receipt *Receipt) page {
	p := page{User: v.user.ID, Name: v.user.Name, City: v.user.City, Picks: v.picks, Receipt: receipt}
	if age := v.goods.age(); age > oldAfter {
		p.Age = age.String()
	}
	for _, kind := range []struct{ name, title string }{
		{"tea", "Tea"}, {"herbs", "Herbs and fruit"}, {"pots", "Pots"}, {"cups", "Cups and bowls"}, {"tools", "Tools"},
	} {
		r := row{Title: kind.title}
		for _, product := range v.goods.Products {
			if product.Kind == kind.name {
				r.Products = append(r.Products, product)
			}
		}
		p.Shelves = append(p.Shelves, r)
	}
	return p
}

func render(w http.ResponseWriter, name string, p page) {
	var page bytes.Buffer
	if err := templates.ExecuteTemplate(&page, name, p); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'")
	_, _ = page.WriteTo(w) // the client is gone: nobody to tell
}
