"""Keys, values, the argument forms of the verbs, RowSparse, dtypes, and arrays of other libraries."""
