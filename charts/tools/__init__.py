"""What makes the generated files of the charts: values, schemas, value tables, dashboards."""
