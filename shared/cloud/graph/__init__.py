"""SharePoint and OneDrive for Business through Microsoft Graph, as an application with its own permissions."""
