"""What came out, said in sentences, tables and pages."""
