using Sessions.Api.Domain;

namespace Sessions.Api.Engine.Agents;

/// <summary>How an agent was when it was asked last.</summary>
/// <param name="Error">Why it could not answer; <see langword="null"/>: it answered.</param>
/// <param name="At">When that was.</param>
internal sealed record AgentHealth(Error? Error, DateTimeOffset At);

/// <summary>A tool that an agent may call on the server.</summary>
/// <param name="Server">The tool server, as the agent's settings name it.</param>
/// <param name="Name">Its name.</param>
/// <param name="Description">What it is good for, once its server has told.</param>
internal sealed record AgentTool(string Server, string Name, string? Description);
