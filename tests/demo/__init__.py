"""`make demo`: the product from installation to an answered request, on a simulated cluster or on the user's own."""
