namespace Sessions.ServiceDefaults;

/// <summary>
/// The settings are not usable. The message is complete in itself (where, which key, what is allowed): print it and stop.
/// </summary>
/// <param name="message">One line for each fault found.</param>
public sealed class SettingsException(string message) : Exception(message);
